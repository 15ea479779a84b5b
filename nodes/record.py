"""Sample Bank: record h while many seeds are sampled."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from ..directions import Bank, Source, open_bank, safe_path, write_shard
from ..directions.bank import seeds_in
from . import unet
from .digest import digest, model_digest, weights_fingerprint
from .folders import BANKS
from .inputs import BATCH_SIZE, BRANCH, CFG, first_seed_input
from .sampling import Progress, sample, seed_range, single_latent
from .types import CATEGORY, HSpaceBank


class HSpaceSampleBank(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceSampleBank",
            display_name="Sample Bank",
            category=CATEGORY,
            description="Samples many seeds and records the UNet's bottleneck on the way: the bank in which "
            "directions are found. It is kept on disk, continues where it was interrupted, and is not sampled again "
            "for the same settings. Picture i is the one SamplerCustom makes with seed first_seed + i.",
            search_aliases=["capture", "record h-space", "collect samples", "dataset", "bank"],
            inputs=[
                io.Model.Input("model", tooltip="A UNet with a bottleneck: SD1.x, SD2.x, SDXL or a pixel DDPM."),
                io.Conditioning.Input("positive", tooltip="What all pictures of the bank show."),
                io.Conditioning.Input("negative", tooltip="Its opposite. Not used at cfg 1."),
                io.Sampler.Input("sampler", tooltip="Any sampler. euler_ancestral is the paper's choice."),
                io.Sigmas.Input("sigmas", tooltip="The schedule. 10 to 25 steps are enough to find directions."),
                io.Latent.Input("latent", tooltip="One empty latent: gives the size of the pictures."),
                io.String.Input("name", default="bank", tooltip="Folder of the bank in models/hspace_banks."),
                io.Int.Input(
                    "count", default=200, min=0, max=100000, tooltip="How many pictures. 100 to 500 are usual."
                ),
                first_seed_input("picture"),
                BATCH_SIZE,
                CFG,
                BRANCH,
            ],
            outputs=[
                HSpaceBank.Output(display_name="bank", tooltip="To Find Directions (PCA)."),
                io.Latent.Output(display_name="latent", tooltip="The finished pictures, by seed."),
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, sampler, sigmas, latent, name, count, first_seed, batch_size, cfg, branch
    ):
        if count < 1:
            raise ValueError(f"A bank needs pictures: got count {count}, wanted 1 or more. Raise count.")
        settings = dict(positive=positive, negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas)
        (bank,) = record_banks(
            model, {name: settings}, latent=latent, seeds=seed_range(first_seed, count), batch_size=batch_size,
            branch=branch,
        )  # fmt: skip
        return io.NodeOutput(bank, {"samples": bank.latents()})


def record_banks(
    model, settings: Mapping[str, dict], *, latent: dict, seeds: Sequence[int], batch_size: int, branch: str
) -> list[Bank]:
    """A bank of `seeds` for each name and what is sampled under it; seeds that are on disk are not sampled again."""
    unet.require_bottleneck(model)
    latent = single_latent(model, latent)
    plans = [_Plan.of(model, name, seeds, branch, latent=latent, **chosen) for name, chosen in settings.items()]
    progress = Progress(
        model, sum(math.ceil(len(plan.missing) / batch_size) * (len(plan.run["sigmas"]) - 1) for plan in plans)
    )
    source = source_of(model, latent, branch)
    for plan in plans:
        plan.record(model, source, batch_size, branch, progress)
    return [open_bank(plan.folder).select(seeds) for plan in plans]


@dataclass(frozen=True)
class _Plan:
    """What is still to be sampled for one bank."""

    run: dict
    recipe: str
    folder: Path
    missing: list[int]
    bank: Bank | None
    """What is on disk."""

    @classmethod
    def of(cls, model, name: str, seeds: Sequence[int], branch: str, **run) -> "_Plan":
        recipe = recipe_of(model, **run, branch=branch)
        folder = bank_folder(name, recipe)
        bank = open_bank(folder) if any(folder.glob("*.safetensors")) else None
        missing = sorted(set(seeds) - set(bank.seeds if bank else ()))
        return cls(run, recipe, folder, missing, bank)

    def record(self, model, source: Source, batch_size: int, branch: str, progress: Progress) -> None:
        expected = self.bank.timesteps if self.bank else None
        known = {shard.path for shard in self.bank.shards} if self.bank else set()
        missing = self.missing
        while missing:
            batch, missing = missing[:batch_size], missing[batch_size:]
            recording, recorder = unet.record(model, branch)
            latents = sample(recording, **self.run, seeds=batch, on_step=progress)
            timesteps, h = recorder.trajectory()
            expected = same_timesteps(expected, timesteps)
            paths = set(self.folder.glob("*.safetensors"))
            elsewhere, known = seeds_in(paths - known), paths  # another server may record into this bank
            rows = [row for row, seed in enumerate(batch) if seed not in elsewhere]
            if rows:
                write_shard(
                    self.folder, [batch[row] for row in rows], timesteps=timesteps, h=h[rows], latents=latents[rows],
                    source=source, recipe=self.recipe,
                )  # fmt: skip
            missing = [seed for seed in missing if seed not in elsewhere]


def recipe_of(model, *, positive, negative, cfg, sampler, sigmas, latent, branch: str) -> str:
    """JSON of all that decides what a seed becomes: by it a bank is continued, or sampled anew."""
    recipe = {
        "sample": unet.model_family(model),
        "model": model_digest(model),
        "positive": digest(positive),
        "negative": digest(negative),
        "cfg": cfg,
        "sampler": getattr(getattr(sampler, "sampler_function", sampler), "__name__", type(sampler).__name__),
        "sampler_digest": digest(sampler),
        "sigmas": [float(f"{sigma:.6g}") for sigma in sigmas.tolist()],
        "latent": list(latent["samples"].shape),
        "latent_digest": digest(latent),
        "branch": branch,
    }
    return json.dumps(recipe, sort_keys=True)


def source_of(model, latent: dict, branch: str) -> Source:
    pixels = model.get_model_object("latent_format").spacial_downscale_ratio
    height, width = latent["samples"].shape[-2:]
    return Source(unet.model_family(model), weights_fingerprint(model), branch, (width * pixels, height * pixels))


def bank_folder(name: str, recipe: str) -> Path:
    """The folder of the bank that this recipe makes; another recipe under the same name has another folder."""
    root = Path(folder_paths.get_folder_paths(BANKS)[0])
    return safe_path(root, f"{name}-{digest(recipe)}", suffix="")


def same_timesteps(expected: Tensor | None, timesteps: Tensor) -> Tensor:
    """`timesteps`. `ValueError` if the bank's pictures so far were recorded at others."""
    if expected is not None and not torch.equal(expected, timesteps):
        raise ValueError(
            f"This sampler chooses its own timesteps for each picture: got {timesteps.tolist()}, wanted "
            f"{expected.tolist()} as before. Use a sampler with fixed steps, not dpm_adaptive."
        )
    return timesteps


NODES = [HSpaceSampleBank]
