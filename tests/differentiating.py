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


def tiny_vae(dtype=None):
    """A VAE for Stable Diffusion, random."""
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    draw = torch.Generator().manual_seed(0)  # ComfyUI leaves new weights as the memory was
    weights = TAESD().state_dict()
    for name, weight in weights.items():
        if weight.ndim:  # its scale and shift are numbers
            fan_in = weight[0].numel() if weight.ndim > 1 else 100
            weights[name] = 0.8 * torch.randn(weight.shape, generator=draw) / fan_in**0.5
    return comfy.sd.VAE(sd=weights, dtype=dtype)


def objective(faces, way=None, dtype=torch.float32):
    text, image = transformers_halves()
    vision = comfy_vision(image)
    vision.model.to(dtype)  # of lent weights float32: what is cast to another is no longer what was lent
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


def found_jacobian(faces, model, latent=LATENT):
    """Deltas of two directions, and the picture."""
    with torch.inference_mode():
        directions, picture, _ = faces.node("HSpaceFindJacobian").execute(
            model, conditioning(1), conditioning(2), faces.euler, sigmas(model, 3), latent, 5, "0.5", 2, 3.0, 0,
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


def gradients_learnt_from(faces, model, vae, objective, latent, change: float):
    """Of the loss at each of two steps, by a delta that is `change` times as large as h's spread.

    The loss is scaled by as much as the precision holds, as it is after a few rounds, and the gradients are not.
    """
    steps, trainers = (faces.module(f"nodes.host.{name}") for name in ("train_step", "trainer"))
    found = []

    class Kept(steps.TrainStep):
        def __call__(self, step, split_unet, branched):
            scaler = self.learner.scaler
            while True:
                gradient = self._learnt(step, 0, split_unet, branched, slice(0, len(branched)))[-1]
                if gradient.isfinite().all():
                    break
                scaler.update(scaler.get_scale() / 2)
            found.append(gradient / scaler.get_scale())
            return split_unet.prediction

    run = dict(positive=conditioning(1), negative=conditioning(2), cfg=3.0, sampler=faces.euler, latent=latent)
    with torch.inference_mode():
        run["sigmas"], seeds = sigmas(model, 2), range(50, 53)
        trainer = trainers.Trainer(model, run, vae, objective, seeds, 3, "positive", 1, "middle")
        baseline = trainer.measure_baseline()
        with torch.inference_mode(False):
            learner = faces.directions.Learner(baseline.shape, baseline.scale_over("constant"), 10 * change)
        trainer._sample(Kept(learner, objective, vae, baseline, [0, 1, 2], 0.0), seeds, learning=True)
    return found


def learnt_from_words(faces, model, file: Path, latent=LATENT):
    """`(steps, d)` of a round at two sites."""
    encoded, run = (
        tuple(map(conditioning, (1, 3, 4))),
        dict(sampler=faces.euler, sigmas=sigmas(model, 2), latent=latent),
    )
    with torch.inference_mode():
        trainer = faces.module("nodes.host.slider_trainer").SliderTrainer(
            model, lambda number: encoded, conditioning(2), run, 3.0, 0, 2, 1, ("middle", "output.3")
        )
        found = trainer.started({}, file)
        trainer.train_round(found)
    return torch.stack(found.rows)
