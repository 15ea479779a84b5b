"""Sampling calls in which the UNet is split: visited at some sigmas or at each step, or decoded twice."""

from collections.abc import Callable

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .branches import Branch, branches_of, chunk_of_branch
from .site import require_bottleneck, wrapped
from .split_unet import SplitUNet, split

PredictedLatents = Callable[[Tensor], Tensor]
"""From a decoder's output to the latents of the pictures that it predicts."""
Visit = Callable[[int, SplitUNet, PredictedLatents | None], Tensor]


def visit_at_sigmas(model, visit: Callable[[float, SplitUNet], None], sigmas: set[float], branch: Branch):
    """A clone of `model` that calls `visit(sigma, split_unet)` the first time it samples one picture at each sigma."""
    require_bottleneck(model)
    visited = wrapped(model)
    visited.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "hspace_sigmas", _SigmaVisitor(visit, set(sigmas), branch))
    return visited


class _SigmaVisitor:
    """Lives for one sampling call."""

    def __init__(self, visit: Callable[[float, SplitUNet], None], waiting: set[float], branch: Branch):
        self.visit, self.waiting, self.branch = visit, waiting, branch

    def __call__(self, executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
        options = transformer_options or {}
        sigma = float(options["sigmas"][0])
        branches = branches_of(options)
        chunk = chunk_of_branch(branches, self.branch) if sigma in self.waiting else None
        if chunk is None:
            return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
        self.waiting.remove(sigma)
        prediction, split_unet = split(
            executor, x, timesteps, context, y, control, options, part=(chunk, len(branches)), **kwargs
        )
        with torch.inference_mode(False), torch.no_grad():
            self.visit(sigma, split_unet)
        return prediction


def visit_steps(model, sigmas: Tensor, branch: Branch, visit: Visit, *, learning: bool):
    """A clone of `model` whose decoder is `visit(step, split_unet, predicted)` while it samples along `sigmas`.

    `predicted` makes the latents of the branch's predicted pictures of a decoder's output; it is None where a step is
    evaluated again, or the other side of the guidance alone.
    """
    require_bottleneck(model)
    visited, visitor = wrapped(model), _StepVisitor(model, sigmas, branch, visit, learning)
    visited.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "hspace_steps", visitor)
    return visited


class _StepVisitor:
    """Lives for one sampling call."""

    def __init__(self, model, sigmas: Tensor, branch: Branch, visit: Visit, learning: bool):
        self.model, self.branch, self.visit, self.learning = model, branch, visit, learning
        self.sigmas = sigmas[:-1].float().cpu()
        self.waiting = set(self.sigmas.tolist())

    def __call__(self, executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
        options = transformer_options or {}
        branches, sigma = branches_of(options), float(options["sigmas"][0])
        step, chunk = int((self.sigmas - sigma).abs().argmin()), chunk_of_branch(branches, self.branch)
        _, split_unet = split(
            executor, x, timesteps, context, y, control, options, differentiable=self.learning, **kwargs
        )
        predicted = None
        if chunk is not None and sigma in self.waiting:
            self.waiting.remove(sigma)
            with torch.inference_mode(False), torch.no_grad():
                inputs = x.clone().chunk(len(branches))[chunk]
            predicted = lambda out: self._latents(out.chunk(len(branches))[chunk], inputs, sigma)  # noqa: E731
        return self.visit(step, split_unet, predicted)

    def _latents(self, out: Tensor, inputs: Tensor, sigma: float) -> Tensor:
        """Of the predicted pictures, as they would leave the sampler."""
        sampling = self.model.get_model_object("model_sampling")
        at = torch.tensor([sigma], device=out.device)
        scaled = sampling.calculate_input(at, torch.ones(1, 1, 1, 1, device=out.device))
        x0 = sampling.calculate_denoised(at, out.float(), inputs.float() / scaled)
        return self.model.model.process_latent_out(x0)


class EncodeOnce:
    """A wrapper of the UNet that runs it whole, and then, while `edit` is set, its decoder half alone on an edited h.

    `edit` is a patch of the bottleneck. Where want of memory splits the second pass into other batches, those are
    encoded again. Lives for one sampling call.
    """

    def __init__(self):
        self.edit: Callable[[dict], dict] | None = None
        self.whole: dict[tuple, SplitUNet] = {}

    def __call__(self, executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
        options = transformer_options or {}
        batch = (tuple(options["cond_or_uncond"]), tuple(options["uuids"]))
        split_unet = None if self.edit is None else self.whole.pop(batch, None)
        if split_unet is None:
            prediction, split_unet = split(
                executor, x, timesteps, context, y, control, options, differentiable=False, **kwargs
            )
        if self.edit is None:
            self.whole[batch] = split_unet
            return prediction
        return split_unet.decode(
            self.edit({"h": split_unet.h, "x": x, "timesteps": timesteps, "transformer_options": options})["h"]
        )
