"""Runs of the nodes that differentiate, each on tiny models, and what they need: shared by the tests of derivatives."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from demo_faces import folder_of
from lent_weights import lend_weights
from models import conditioning, sigmas
from tiny_clip import comfy_clip, comfy_vision, transformers_halves

TEXTS = "a smiling face", "a face"
LATENT = {"samples": torch.zeros(1, 4, 8, 8)}


def tiny_vae():
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    draw = torch.Generator().manual_seed(0)
    weights = TAESD().state_dict()
    for name, weight in weights.items():
        if weight.ndim:
            weights[name] = 0.05 * torch.randn(weight.shape, generator=draw)
    return comfy.sd.VAE(sd=weights)


def objective(faces, way=None):
    text, image = transformers_halves()
    vision = comfy_vision(image)
    vision.model.float()  # what is cast to another precision is no longer what was lent
    if way:
        lend_weights(vision.model, way)
    return faces.module("nodes.host.objective").text_objective(comfy_clip(text.state_dict()), vision, *TEXTS)


def cut(modules, model, positive, negative, cfg=1.0, latent=None, branch="positive", seeds=(3,), site="middle"):
    """The halves of the second of three steps, and the finished latents."""
    import comfy.samplers

    found = []
    schedule = sigmas(model, 3)
    watched = modules("host.split_passes").visit_at_sigmas(
        model, lambda sigma, halves: found.append(halves), {float(schedule[1]): "step 2"}, branch, site
    )
    with torch.inference_mode():  # as ComfyUI runs nodes
        latents = modules("host.sampling").sample(
            watched, positive=positive, negative=negative, cfg=cfg,
            sampler=comfy.samplers.sampler_object("euler"), sigmas=schedule,
            latent=latent or {"samples": torch.zeros(1, 4, 16, 16)}, seeds=seeds, on_step=lambda x0: None,
        )  # fmt: skip
    (halves,) = found
    return halves, latents


def found_jacobian(faces, model):
    """Deltas of two directions, and the picture."""
    with torch.inference_mode():
        directions, picture, _ = faces.node("HSpaceFindJacobian").execute(
            model, conditioning(1), conditioning(2), faces.euler, sigmas(model, 3), LATENT, 5, "0.5", 2, 3.0, 0,
            "positive", sites="middle",
        ).result  # fmt: skip
    return torch.cat([each.deltas["middle"] for each in directions.directions]), picture["samples"]


def learnt_under(faces, model, vae, objective, *, count: int, keep: float, batch_size: int):
    """The delta of two rounds, in a new folder: what goes on would have nothing left to learn."""
    with torch.inference_mode(), TemporaryDirectory() as folder, folder_of("hspace_banks", Path(folder)):
        direction, *_ = faces.node("HSpaceLearnDirection").execute(
            model, conditioning(1), conditioning(2), faces.euler, sigmas(model, 2), LATENT, vae, objective, "smile",
            "constant", count, 50, 2, 0.02, keep, batch_size, 3.0, "positive", "middle",
        ).result  # fmt: skip
    return direction.deltas["middle"]


def learnt_from_words(faces, model, file: Path):
    """`(steps, d)` of a round at two sites."""
    encoded, run = (
        tuple(map(conditioning, (1, 3, 4))),
        dict(sampler=faces.euler, sigmas=sigmas(model, 2), latent=LATENT),
    )
    with torch.inference_mode():
        trainer = faces.module("nodes.host.slider_trainer").SliderTrainer(
            model, lambda number: encoded, conditioning(2), run, 3.0, 0, 2, 1, ("middle", "output.3")
        )
        found = trainer.started({}, file)
        trainer.train_round(found)
    return torch.stack(found.rows)
