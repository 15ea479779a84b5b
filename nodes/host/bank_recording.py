"""Banks recorded while seeds are sampled: what is on disk already is not sampled again."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import folder_paths
import torch
from filelock import FileLock
from torch import Tensor

from ...directions import Bank, Source, open_bank, safe_path, seeds_in, write_shard
from .fingerprint import digest, model_digest, weights_fingerprint
from .paths import BANKS
from .progress import Progress
from .recorder import record
from .sampling import sample, single_latent
from .site import model_family, require_bottleneck


def record_banks(
    model, settings: Mapping[str, dict], *, latent: dict, seeds: Sequence[int], batch_size: int, branch: str
) -> list[Bank]:
    """A bank of `seeds` for each name and what is sampled under it; seeds that are on disk are not sampled again."""
    require_bottleneck(model)
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
        recipe = sampling_recipe(model, **run, branch=branch)
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
            recording, recorder = record(model, branch)
            latents = sample(recording, **self.run, seeds=batch, on_step=progress)
            timesteps, h = recorder.trajectory()
            expected = same_timesteps(expected, timesteps)
            with sole_writer(self.folder):
                paths = set(self.folder.glob("*.safetensors"))
                elsewhere, known = seeds_in(paths - known), paths  # another server may record into this bank
                rows = [row for row, seed in enumerate(batch) if seed not in elsewhere]
                if rows:
                    write_shard(
                        self.folder, [batch[row] for row in rows], timesteps=timesteps, h=h[rows],
                        latents=latents[rows], source=source, recipe=self.recipe,
                    )  # fmt: skip
            missing = [seed for seed in missing if seed not in elsewhere]


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """No other server writes into the bank in `folder` meanwhile: waits until it is done. A killed one has let go."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock").acquire()
    except OSError as error:
        raise ValueError(
            f"Could not write into the bank {folder.name}: {error}. Nothing was changed; free some disk space or check "
            f"the permissions of {folder}, then run again."
        ) from error
    with lock:
        yield


def sampling_recipe(model, *, positive, negative, cfg, sampler, sigmas, latent, branch: str) -> str:
    """JSON of all that decides what a seed becomes: by it a bank is continued, or sampled anew."""
    recipe = {
        "sample": model_family(model),
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
    return Source(model_family(model), weights_fingerprint(model), branch, (width * pixels, height * pixels))


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
