"""Invert an image: the noise and the steps that lead to a picture one has."""

import json
from collections.abc import Sequence

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..host import (
    Inversion,
    InvertedNoise,
    Progress,
    Recording,
    Trajectories,
    independent_noise,
    invert_ddim,
    invert_ddpm,
    no_noise,
    record,
    require_bottleneck,
    sampling_recipe,
    seed_range,
    source_of,
    stored_inversion,
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
            "sampler gives the picture back. The bottleneck is recorded on the way. What was inverted is kept on disk: "
            "stopped half-way, it goes on.",
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
        latent = {**latent, "samples": samples}
        run = dict(positive=positive, negative=negative, cfg=cfg, sigmas=sigmas)
        recipe = json.loads(sampling_recipe(model, **run, sampler=method, latent={"samples": samples}, branch=branch))
        recipe = json.dumps({"inversion": method, "seed": seed, **recipe}, sort_keys=True)
        recording = Recording.of(name, recipe, source_of(model, latent, branch), seed_range(seed, len(samples)))
        invert, passes, eta = (_edit_friendly, 1, 1.0) if method == EDIT_FRIENDLY else (_ddim, 2, 0.0)
        progress = Progress(model, passes * recording.batches(batch_size) * (len(sigmas) - 1))

        def inverted(batch: Sequence[int]) -> Trajectories:
            pictures = samples[[own - seed for own in batch]]
            watched, recorder = record(model, branch)
            back, noises = invert(model, watched, run, pictures, batch, progress)
            error = (back - pictures).abs().flatten(1).amax(1)
            return Trajectories(*recorder.trajectory(), pictures, {**noises, "error": error})

        bank = recording.complete(batch_size, inverted)
        inversion = stored_inversion(bank, sigmas, eta)
        info = f"{method}: without an edit the picture comes back to {bank.kept('error').max():.1e}"
        noise = InvertedNoise(seed, inversion.start)
        return io.NodeOutput(noise, latent, inversion.sampler(), sigmas, bank, info, ui=ui.PreviewText(info))


def _checked(model, latent: dict, sigmas: Tensor, skip: int) -> tuple[Tensor, Tensor]:
    require_bottleneck(model, "Invert Image")
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
    return samples.float().cpu().contiguous(), sigmas[skip:].cpu()


def _edit_friendly(model, watched, run: dict, pictures: Tensor, seeds: Sequence[int], progress):
    """The pictures as they come back, and the noises that lead to them, `(n, ...)` each."""
    noises, found = independent_noise(pictures, seeds, len(run["sigmas"]) - 1), []
    solver = comfy.samplers.KSAMPLER(invert_ddpm, {"noises": noises, "found": found})
    back = _sampled(watched, run, pictures, noises[0], solver, seeds[0], progress)
    return back, {"start": noises[0], "noises": torch.stack(found, 1).cpu()}


def _ddim(model, watched, run: dict, pictures: Tensor, seeds: Sequence[int], progress):
    """The pictures as they come back, and the noise that leads to them, `(n, ...)` each."""
    found: list[Tensor] = []
    solver = comfy.samplers.KSAMPLER(invert_ddim, {"found": found})
    _sampled(model, run, pictures, torch.ones_like(pictures), solver, seeds[0], progress)
    inversion = Inversion(found[0].cpu(), no_noise, run["sigmas"], eta=0.0)
    back = _sampled(watched, run, pictures, inversion.start, inversion.sampler(), seeds[0], progress)
    return back, {"start": inversion.start}


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


NODES = [HSpaceInvertImage]
