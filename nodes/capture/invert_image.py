"""Invert an image: the noise and the steps that lead to a picture one has."""

import json
import math

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...directions import open_bank, write_shard
from ..host import (
    Inversion,
    InvertedNoise,
    Progress,
    bank_folder,
    independent_noise,
    invert_ddim,
    invert_ddpm,
    record,
    require_bottleneck,
    sampling_recipe,
    seed_range,
    source_of,
)
from ..ui import BATCH_SIZE, BRANCH, CATEGORY, CFG, HSpaceBank, seed_input

EDIT_FRIENDLY, DDIM = "edit-friendly DDPM", "DDIM"


class HSpaceInvertImage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceInvertImage",
            display_name="Invert Image",
            category=CATEGORY,
            description="Finds the noise that leads to a picture you have, so that it can be edited like a generated "
            "one: connect all four to SamplerCustomAdvanced, with Inject Direction on the model. Without an edit the "
            "sampler gives the picture back. The bottleneck is recorded on the way.",
            search_aliases=["real image", "inversion", "unsample", "edit photo", "ddpm inversion", "ddim inversion"],
            inputs=[
                io.Model.Input("model", tooltip="The model that will edit, without Inject Direction."),
                io.Conditioning.Input("positive", tooltip="As in the guider that samples: it must be the same."),
                io.Conditioning.Input("negative", tooltip="As in the guider that samples. Not used at cfg 1."),
                io.Latent.Input("latent", tooltip="The pictures, from VAE Encode. One or many of the same size."),
                io.Sigmas.Input("sigmas", tooltip="The schedule. 50 steps: with fewer, edits are weaker."),
                io.Combo.Input(
                    "method",
                    options=[EDIT_FRIENDLY, DDIM],
                    default=EDIT_FRIENDLY,
                    tooltip="edit-friendly DDPM gives the picture back exactly, at any cfg. DDIM only nearly, the "
                    "better the more steps and the lower cfg, but its edits follow the model more freely.",
                ),
                io.Int.Input(
                    "skip",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Leave out this many of the first, noisiest steps: more of the picture stays, edits of "
                    "its layout get weaker. 0 to a half of the steps.",
                ),
                seed_input("Seed of the first picture's noise, counting up. Another gives another, equal way there."),
                io.String.Input("name", default="pictures", tooltip="Folder of the bank in models/hspace_banks."),
                BATCH_SIZE,
                CFG,
                BRANCH,
            ],
            outputs=[
                io.Noise.Output(display_name="noise", tooltip="To SamplerCustomAdvanced, with the other three."),
                io.Latent.Output(display_name="latent", tooltip="The pictures themselves: what the sampler starts at."),
                io.Sampler.Output(display_name="sampler", tooltip="Takes the steps that lead to the pictures."),
                io.Sigmas.Output(display_name="sigmas", tooltip="The schedule, without the skipped steps."),
                HSpaceBank.Output(display_name="bank", tooltip="h of the pictures, for finding directions in."),
                io.String.Output(display_name="info", tooltip="How exactly the pictures come back."),
            ],
        )

    @classmethod
    def execute(cls, model, positive, negative, latent, sigmas, method, skip, seed, name, batch_size, cfg, branch):
        samples, sigmas = _checked(model, latent, sigmas, skip)
        run = dict(positive=positive, negative=negative, cfg=cfg, sigmas=sigmas)
        seeds = seed_range(seed, len(samples))
        passes = 1 if method == EDIT_FRIENDLY else 2
        progress = Progress(model, passes * math.ceil(len(samples) / batch_size) * (len(sigmas) - 1))
        parts, recordings, again = [], [], []
        for first in range(0, len(samples), batch_size):
            pictures, own = samples[first : first + batch_size], seeds[first : first + batch_size]
            watched, recorder = record(model, branch)
            if method == EDIT_FRIENDLY:
                inversion, back = _edit_friendly(watched, run, pictures, own, progress)
            else:
                inversion = _ddim(model, run, pictures, own, progress)
                back = _sampled(watched, run, pictures, inversion.start, inversion.sampler(), own[0], progress)
            parts.append(inversion)
            recordings.append(recorder.trajectory())
            again.append(back)
        whole = Inversion(
            torch.cat([part.start for part in parts]), torch.cat([part.noises for part in parts], 1), sigmas,
            parts[0].eta,
        )  # fmt: skip
        recipe = json.loads(sampling_recipe(model, **run, sampler=method, latent={"samples": samples}, branch=branch))
        recipe = json.dumps({"invert": method, "seed": seed, **recipe}, sort_keys=True)
        bank = _bank(name, recipe, seeds, recordings, samples, source_of(model, {"samples": samples}, branch))
        info = f"{method}: without an edit the picture comes back to {(torch.cat(again) - samples).abs().max():.1e}"
        outputs = InvertedNoise(seed, whole.start), {**latent, "samples": samples}, whole.sampler(), sigmas, bank, info
        return io.NodeOutput(*outputs, ui=ui.PreviewText(info))


def _checked(model, latent: dict, sigmas: Tensor, skip: int) -> tuple[Tensor, Tensor]:
    require_bottleneck(model)
    samples = latent["samples"]
    channels = model.get_model_object("latent_format").latent_channels
    if samples.ndim != 4 or samples.shape[1] != channels:
        raise ValueError(
            f"These latents are not this model's: got {tuple(samples.shape)}, wanted (n, {channels}, height, width). "
            "Encode the picture with the VAE that belongs to the model."
        )
    if "noise_mask" in latent:
        raise ValueError("A latent with a noise mask can't be inverted: invert the picture whole, mask the edit.")
    if len(sigmas) - 1 - skip < 2 or sigmas[-1] != 0 or not (sigmas.diff() < 0).all():
        raise ValueError(
            f"An inversion needs sigmas that fall to 0, and two steps or more after the skipped: got {len(sigmas) - 1} "
            f"steps from {float(sigmas[0]):.3g} to {float(sigmas[-1]):.3g}, skip {skip}. Lower skip, or use a "
            "scheduler with denoise."
        )
    return samples.float().cpu(), sigmas[skip:].cpu()


def _edit_friendly(model, run: dict, pictures: Tensor, seeds: range, progress) -> tuple[Inversion, Tensor]:
    noises, found = independent_noise(pictures, seeds, len(run["sigmas"]) - 1), []
    solver = comfy.samplers.KSAMPLER(invert_ddpm, {"noises": noises, "found": found})
    back = _sampled(model, run, pictures, noises[0], solver, seeds[0], progress)
    return Inversion(noises[0], torch.stack(found).cpu(), run["sigmas"], eta=1.0), back


def _ddim(model, run: dict, pictures: Tensor, seeds: range, progress) -> Inversion:
    found: list[Tensor] = []
    climber = comfy.samplers.KSAMPLER(invert_ddim, {"found": found})
    _sampled(model, run, pictures, torch.ones_like(pictures), climber, seeds[0], progress)
    steps = len(run["sigmas"]) - 1
    return Inversion(found[0].cpu(), torch.zeros(steps, *pictures.shape), run["sigmas"], eta=0.0)


def _sampled(model, run: dict, pictures: Tensor, noise: Tensor, sampler, seed: int, progress) -> Tensor:
    comfy.model_management.throw_exception_if_processing_interrupted()
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(run["positive"], run["negative"])
    guider.set_cfg(run["cfg"])
    samples = guider.sample(
        noise, pictures, sampler, run["sigmas"], callback=lambda step, x0, x, total: progress(x0),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=seed,
    )  # fmt: skip
    return samples.float().cpu()


def _bank(name: str, recipe: str, seeds: range, recordings, latents: Tensor, source):
    folder = bank_folder(name, recipe)
    bank = open_bank(folder) if any(folder.glob("*.safetensors")) else None
    if bank is None or set(seeds) - set(bank.seeds):
        timesteps = recordings[0][0]
        h = torch.cat([h for _, h in recordings])
        write_shard(folder, seeds, timesteps=timesteps, h=h, latents=latents, source=source, recipe=recipe)
    return open_bank(folder).select(seeds)


NODES = [HSpaceInvertImage]
