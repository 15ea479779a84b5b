"""Sampling calls in which the UNet is split: visited at some sigmas or at each step, or run twice from a site on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...directions import brief
from .branches import Branch, branches_of, chunk_of_branch
from .patching import wrapped
from .site_call import SiteCall, SitePatch
from .sites import decoder_block, require_bottleneck, require_sites
from .split_unet import SplitUNet, split


@dataclass(frozen=True, eq=False)
class Branched:
    """The pictures of one side of the guidance in a call of the UNet."""

    rows: slice
    """Of the call's batch."""
    latents: Callable[[Tensor, slice], Tensor]
    """Of the pictures that the decoder's output predicts, for a part of these rows."""

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start

    def part(self, part: slice) -> slice:
        """Of the call's batch."""
        return slice(self.rows.start + part.start, self.rows.start + part.stop)


Visit = Callable[[int, SplitUNet, Branched | None], Tensor]


def visit_at_sigmas(
    model, visit: Callable[[float, SplitUNet], None], sigmas: Mapping[float, str], branch: Branch, site: str
):
    """A clone of `model` that calls `visit(sigma, split_unet)` the first time it samples one picture at each sigma.

    `sigmas` have the names by which the sampling call ends in a `ValueError` where it does not come to one of them.
    """
    return _visited(model, _SigmaVisitor(visit, awaited := _Awaited(sigmas, branch), site), awaited, site)


def _visited(model, visitor: Callable, awaited: "_Awaited", site: str):
    require_bottleneck(model, "What is differentiated here")
    require_sites(model, (site,), "Cutting the UNet")
    visited = wrapped(model, differentiated=True)
    visited.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "hspace_visit", visitor)
    visited.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "hspace_visit", awaited.predict_noise)
    visited.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "hspace_visit", awaited.outer_sample)
    return visited


class _Awaited:
    """Sigmas at which a sampler has still to evaluate a branch. Lives for one sampling call."""

    def __init__(self, sigmas: Mapping[float, str], branch: Branch):
        self.names, self.branch = dict(sigmas), branch
        self.evaluated: set[float] = set()

    def chunk(self, options: dict) -> int | None:
        """The branch's chunk of a batch, the first time that it comes at an awaited sigma."""
        sigma = float(options["sigmas"][0])
        if sigma not in self.names:
            return None
        chunk = chunk_of_branch(branches_of(options), self.branch)
        if chunk is not None:
            del self.names[sigma]
        return chunk

    def predict_noise(self, executor, x, timestep, *args, **kwargs):
        self.evaluated.add(float(timestep[0]))
        return executor(x, timestep, *args, **kwargs)

    def outer_sample(self, executor, *args, **kwargs):
        samples = executor(*args, **kwargs)
        left_out = [name for sigma, name in self.names.items() if sigma in self.evaluated]
        passed_by = [name for sigma, name in self.names.items() if sigma not in self.evaluated]
        if passed_by:
            raise ValueError(
                f"This sampler takes steps of its own: got other sigmas than that of {brief(', '.join(passed_by))}, "
                "wanted the schedule's. Use one that follows it, such as euler_ancestral, without churn (s_churn 0)."
            )
        if left_out:
            raise ValueError(
                f"The {self.branch} prompt is left out at {brief(', '.join(left_out))}: got predictions without it, "
                "wanted one with it. At cfg 1 ComfyUI skips the negative prompt: raise cfg, or set branch to positive. "
                "A prompt with a timestep range must cover these steps."
            )
        return samples


class _SigmaVisitor:
    """Lives for one sampling call."""

    def __init__(self, visit: Callable[[float, SplitUNet], None], awaited: _Awaited, site: str):
        self.visit, self.awaited, self.site = visit, awaited, site

    def __call__(self, executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
        options = transformer_options or {}
        chunk = self.awaited.chunk(options)
        if chunk is None:
            return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
        at = dict(site=self.site, part=(chunk, len(options["cond_or_uncond"])))
        prediction, split_unet = split(executor, x, timesteps, context, y, control, options, **at, **kwargs)
        with torch.inference_mode(False), torch.no_grad():
            self.visit(float(options["sigmas"][0]), split_unet)
        return prediction


def visit_steps(model, sigmas: Tensor, branch: Branch, site: str, visit: Visit, *, learning: bool):
    """A clone of `model` that is `visit(step, split_unet, branched)` from `site` on while it samples along `sigmas`.

    `branched` are the branch's pictures; it is None where a step is evaluated again, or the other side of the guidance
    alone. `ValueError` at the end for steps it was never given at.
    """
    names = {float(sigma): f"step {number} of {len(sigmas) - 1}" for number, sigma in enumerate(sigmas[:-1], 1)}
    awaited = _Awaited(names, branch)
    visitor = _StepVisitor(model, sigmas, site, visit, awaited, learning)
    visited = _visited(model, visitor, awaited, site)
    visited.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "hspace_visit", visitor.note)
    return visited


class _StepVisitor:
    """Lives for one sampling call."""

    def __init__(self, model, sigmas: Tensor, site: str, visit: Visit, awaited: _Awaited, learning: bool):
        self.model, self.site, self.visit, self.awaited, self.learning = model, site, visit, awaited, learning
        self.sigmas, self.noisy = sigmas[:-1].float().cpu(), torch.empty(0)

    def __call__(self, executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
        options = transformer_options or {}
        sigma, count = float(options["sigmas"][0]), len(options["cond_or_uncond"])
        step, chunk = int((self.sigmas - sigma).abs().argmin()), self.awaited.chunk(options)
        _, split_unet = split(
            executor, x, timesteps, context, y, control, options, site=self.site, differentiable=self.learning, **kwargs
        )  # fmt: skip
        branched = None
        if chunk is not None:
            size = len(x) // count
            rows = slice(chunk * size, (chunk + 1) * size)
            with torch.inference_mode(False), torch.no_grad():
                noisy = self.noisy[rows].clone()
            branched = Branched(rows, lambda out, part: self._latents(out, noisy[part], sigma))
        return self.visit(step, split_unet, branched)

    def note(self, executor, x, *args, **kwargs):
        """A wrapper of the model, which is given the sampler's x: the UNet's is scaled, and in its own precision."""
        self.noisy = x
        return executor(x, *args, **kwargs)

    def _latents(self, out: Tensor, noisy: Tensor, sigma: float) -> Tensor:
        """Of the predicted pictures, as they would leave the sampler."""
        sampling = self.model.get_model_object("model_sampling")
        x0 = sampling.calculate_denoised(torch.tensor([sigma], device=out.device), out.float(), noisy)
        return self.model.model.process_latent_out(x0)


class EncodeOnce:
    """A wrapper of the UNet that runs it whole, and then, while `edit` is set, what follows its first site alone.

    `edit` is a patch of all the sites. Where want of memory splits the second pass into other batches, those are
    run whole again. Lives for one sampling call.
    """

    def __init__(self, sites: Sequence[str]):
        self.sites = sorted(sites, key=decoder_block)
        self.edit: SitePatch | None = None
        self.whole: dict[tuple, SplitUNet] = {}

    def __call__(self, executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
        options = transformer_options or {}
        batch = (tuple(options["cond_or_uncond"]), tuple(options["uuids"]))
        split_unet = None if self.edit is None else self.whole.pop(batch, None)
        first, *later = self.sites
        if split_unet is None:
            prediction, split_unet = split(
                executor, x, timesteps, context, y, control, options, site=first, differentiable=False, **kwargs
            )
        if self.edit is None:
            self.whole[batch] = split_unet
            return prediction
        edit = self.edit
        at = lambda site: lambda h: edit(SiteCall(site, h, x, timesteps, options))  # noqa: E731
        return split_unet.decode(at(first)(split_unet.h), {site: at(site) for site in later})
