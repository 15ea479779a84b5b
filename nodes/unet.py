"""The bottleneck of a ComfyUI model: the only file that knows how to read h and how to add to it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from ..directions import Direction

Branch = Literal["positive", "negative"]
Fit = Literal["resize", "exact", "channel mean"]

LAST_TIMESTEP = 999.0
"""Model time of pure noise: ComfyUI's percent p of the sampling is the timestep (1 - p) of it."""

_CHUNK_KINDS = {"positive": 0, "negative": 1}
"""What `cond_or_uncond` calls the chunks of a batch; guiders with a third prompt number it 2."""


def model_family(model) -> str:
    """ComfyUI's name of the model's family, such as "SD15", "SDXL" or "DDPM"."""
    return type(model.model.model_config).__name__


def require_bottleneck(model) -> None:
    """`ValueError` with the model's name unless it is a UNet with a middle block."""
    unet = model.get_model_object("diffusion_model")
    unet = getattr(unet, "_orig_mod", unet)  # past torch.compile
    middle = unet.middle_block if isinstance(unet, UNetModel) else getattr(unet, "mid_block", None)
    if middle is None:
        raise ValueError(
            f"{model_family(model)} ({type(unet).__name__}) has no UNet bottleneck, so it has no h-space. Use a UNet "
            "with a middle block: SD1.x, SD2.x, SDXL and its kin, or a pixel DDPM."
        )


def require_fit(model, direction: Direction) -> None:
    """`ValueError` unless `direction` was found in a model of this one's family."""
    require_bottleneck(model)
    if direction.source.family != model_family(model):
        raise ValueError(
            f'"{direction.name}" was found in another kind of model: got {direction.source.family}, wanted '
            f"{model_family(model)}. Find it again with this model, or load the model it was found in."
        )


def chunk_of_branch(kinds: Sequence[int | None], branch: Branch) -> int | None:
    """Which chunk of a batch is the `branch`'s; None if it is not in it. `ValueError` if several are."""
    chunks = [i for i, kind in enumerate(kinds) if kind == _CHUNK_KINDS[branch]]
    if len(chunks) > 1:
        raise ValueError(
            f"The {branch} conditioning has {len(chunks)} parts (areas or combined prompts), wanted one: use a single "
            "prompt."
        )
    return chunks[0] if chunks else None


class Recorder:
    """A patch that reads h. It lives for one sampling call and is the pack's only mutable value.

    Where a sampler evaluates a timestep twice (Heun's corrector), the last evaluation counts. A guidance's own pass is
    not recorded: it is a second one over the same x (PAG, SLG), or calls the negative prompt positive (SAG).
    """

    def __init__(self, branch: Branch):
        self.branch = branch
        self.kinds: dict[UUID, int] = {}
        self.h: dict[float, Tensor] = {}
        self.x: dict[float, Tensor] = {}

    def __call__(self, args: dict) -> dict:
        options = args["transformer_options"]
        prompts = zip(options["uuids"], options["cond_or_uncond"], strict=True)
        kinds = [kind if self.kinds.setdefault(uuid, kind) == kind else None for uuid, kind in prompts]
        chunk = chunk_of_branch(kinds, self.branch)
        if chunk is not None:
            x, h = args["x"].chunk(len(kinds))[chunk], args["h"].chunk(len(kinds))[chunk]
            timestep = float(args["timesteps"][0])
            if timestep not in self.x or not torch.equal(self.x[timestep], x):
                self.x[timestep] = x.clone()
                self.h[timestep] = h.to("cpu", torch.float16, copy=True)
        return {"h": args["h"]}

    def trajectory(self) -> tuple[Tensor, Tensor]:
        """Timesteps `(t,)`, descending, and h `(n, t, c, h, w)` float16. `ValueError` if nothing was recorded."""
        if not self.h:
            raise ValueError(
                f"Nothing was recorded: got no model call for the {self.branch} branch. At cfg 1 ComfyUI skips the "
                "negative branch: raise cfg, or record the positive one; and check that SIGMAS is not empty."
            )
        timesteps = sorted(self.h, reverse=True)
        return torch.tensor(timesteps), torch.stack([self.h[timestep] for timestep in timesteps], dim=1)


@dataclass(frozen=True, eq=False)
class Injection:
    """A patch that adds `strength` times a direction to h, out of place.

    It has no `.to`: ComfyUI would cast the float32 master for good, so each call casts a copy instead.
    """

    direction: Direction
    strengths: tuple[float, ...]
    """One for all samples, or one for each sample of the batch."""
    sigma_start: float
    sigma_end: float
    """Active while sigma_end < sigma <= sigma_start, so that neighbouring windows share no step."""
    apply_to: Literal["both", "positive", "negative"] = "both"
    fit: Fit = "resize"
    mask: Tensor | None = None
    """`(m, height, width)` float32 in 0..1 on the CPU, m being 1 or the batch."""
    curve: Callable[[float], float] | None = None
    """What the strengths are multiplied with, by how much of the sampling is done: 0 pure noise, 1 the picture."""

    def __call__(self, args: dict) -> dict:
        h, options = args["h"], args["transformer_options"]
        if not self.sigma_end < float(options["sigmas"][0]) <= self.sigma_start:
            return {"h": h}
        samples = len(h) // len(options["cond_or_uncond"])
        delta = self._delta(h, args["timesteps"][:1].cpu())
        if len(delta) not in (1, samples):
            raise ValueError(
                f"A mask for each picture is needed, or one for all: got {len(delta)} masks for {samples} pictures."
            )
        chunks = [
            chunk + delta if self.apply_to == "both" or kind == _CHUNK_KINDS[self.apply_to] else chunk
            for chunk, kind in zip(h.chunk(len(options["cond_or_uncond"])), options["cond_or_uncond"], strict=True)
        ]
        return {"h": torch.cat(chunks)}

    def _delta(self, h: Tensor, timestep: Tensor) -> Tensor:
        """What to add to each sample of a chunk: `(1 or b, c, h, w)` like h."""
        delta = self.direction.at(timestep).to(h.device)
        if delta.shape[1] != h.shape[1]:
            raise ValueError(
                f'"{self.direction.name}" does not fit this model: got {delta.shape[1]} channels, wanted '
                f"{h.shape[1]}. Load the model it was found in."
            )
        delta = fit_to(delta, (h.shape[2], h.shape[3]), self.fit, self.direction.name)
        if self.mask is not None:
            delta = delta * adaptive_avg_pool2d(self.mask.to(h.device).unsqueeze(1), h.shape[2:])
        factor = self.curve(1 - float(timestep) / LAST_TIMESTEP) if self.curve else 1.0
        strengths = factor * torch.tensor(self.strengths, device=h.device).reshape(-1, 1, 1, 1)
        return (strengths * delta).to(h.dtype)


def fit_to(delta: Tensor, size: tuple[int, int], fit: Fit, name: str) -> Tensor:
    """`delta (m, c, h, w)` brought to another height and width."""
    if fit == "channel mean":
        return delta.mean((2, 3), keepdim=True)
    if delta.shape[2:] == size:
        return delta
    if fit == "exact":
        raise ValueError(
            f'"{name}" was found at a bottleneck of {delta.shape[3]}x{delta.shape[2]}, this image gives '
            f"{size[1]}x{size[0]}: use the image size it was found at, or set fit to resize."
        )
    return interpolate(delta, size, mode="bilinear", antialias=True)


def inject(
    model,
    direction: Direction,
    strengths: Sequence[float],
    *,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    apply_to: Literal["both", "positive", "negative"] = "both",
    fit: Fit = "resize",
    mask: Tensor | None = None,
    curve: Callable[[float], float] | None = None,
):
    """A clone of `model` that adds `direction` to h while it samples; unpatched where that would change nothing."""
    require_fit(model, direction)
    if not any(strengths) or start_percent >= end_percent:
        return model.clone()
    sampling = model.get_model_object("model_sampling")
    sigmas = sampling.percent_to_sigma(start_percent), sampling.percent_to_sigma(end_percent)
    mask = None if mask is None else mask.reshape(-1, *mask.shape[-2:]).float().cpu()
    return _patched(model, Injection(direction, tuple(strengths), *sigmas, apply_to, fit, mask, curve))


@dataclass(frozen=True, eq=False)
class Replacement:
    """A patch that puts recorded h in the place of the model's own, in a window of sigmas as an injection's."""

    recorded: Mapping[Branch, Mapping[float, Tensor]]
    """h `(n, c, h, w)` by timestep, for each side of the guidance that is replaced."""
    sigma_start: float
    sigma_end: float

    def __call__(self, args: dict) -> dict:
        h, options = args["h"], args["transformer_options"]
        if not self.sigma_end < float(options["sigmas"][0]) <= self.sigma_start:
            return {"h": h}
        timestep, kinds = float(args["timesteps"][0]), options["cond_or_uncond"]
        if any(timestep not in each for each in self.recorded.values()):
            raise ValueError(
                f"The sampler came to timestep {timestep:g}, where nothing was recorded: it chooses its own steps. Use "
                "another sampler."
            )
        by_kind = {_CHUNK_KINDS[branch]: each for branch, each in self.recorded.items()}
        chunks = [
            by_kind[kind][timestep].to(chunk) if kind in by_kind else chunk
            for chunk, kind in zip(h.chunk(len(kinds)), kinds, strict=True)
        ]
        return {"h": torch.cat(chunks)}


def replace(model, recorded: Mapping[Branch, Mapping[float, Tensor]], start_percent: float, end_percent: float):
    """A clone of `model` whose h is the `recorded` one between the percents."""
    sampling = model.get_model_object("model_sampling")
    sigmas = sampling.percent_to_sigma(start_percent), sampling.percent_to_sigma(end_percent)
    return _patched(model, Replacement(recorded, *sigmas))


def record(model, branch: Branch) -> tuple[object, Recorder]:
    """A clone of `model` whose h is read while it samples, and the recorder that holds it."""
    require_bottleneck(model)
    recorder = Recorder(branch)
    return _patched(model, recorder), recorder


def _patched(model, patch: Callable[[dict], dict]):
    """A clone of `model` with one more patch at its bottleneck."""
    patched = model.clone()
    patched.set_model_middle_block_after_patch(patch)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "hspace", uncompiled)
    return patched


def uncompiled(executor, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs):
    """Calls a model that ComfyUI compiles as it was before: compiled, it keeps to the patches of its first call."""
    compiled = "torch.compile" in transformer_options["wrappers"][WrappersMP.APPLY_MODEL]
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
