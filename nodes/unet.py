"""The bottleneck of a ComfyUI model: the only file that knows how to read h and how to add to it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from uuid import UUID

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..directions import Direction
from .edits import ApplyTo, Branch, Call, Edit, Fit, Injection, Replacement

_BRANCHES: dict[int, Branch] = {0: "positive", 1: "negative"}
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
    chunks = [i for i, kind in enumerate(kinds) if _BRANCHES.get(kind) == branch]
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
class Patch:
    """The patch that edits h, out of place, in a window of the sampling.

    It has no `.to`: ComfyUI would call that with the model's dtype, and cast a float32 direction for good.
    """

    edit: Edit
    sigma_start: float
    sigma_end: float
    """Active while sigma_end < sigma <= sigma_start, so that neighbouring windows share no step."""

    def __call__(self, args: dict) -> dict:
        h, options = args["h"], args["transformer_options"]
        if not self.sigma_end < float(options["sigmas"][0]) <= self.sigma_start:
            return {"h": h}
        kinds = options["cond_or_uncond"]
        call = Call(h.chunk(len(kinds)), tuple(map(_BRANCHES.get, kinds)), float(args["timesteps"][0]))
        return {"h": torch.cat(self.edit(call))}


def inject(
    model,
    direction: Direction,
    strengths: Sequence[float],
    *,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    apply_to: ApplyTo = "both",
    fit: Fit = "resize",
    mask: Tensor | None = None,
    curve: Callable[[float], float] | None = None,
):
    """A clone of `model` that adds `direction` to h while it samples; unpatched where that would change nothing."""
    require_fit(model, direction)
    if not any(strengths) or start_percent >= end_percent:
        return model.clone()
    mask = None if mask is None else mask.reshape(-1, *mask.shape[-2:]).float().cpu()
    edit = Injection(direction, tuple(strengths), apply_to, fit, mask, curve)
    return _edited(model, edit, start_percent, end_percent)


def replace(model, recorded: Mapping[Branch, Mapping[float, Tensor]], start_percent: float, end_percent: float):
    """A clone of `model` whose h is the `recorded` one between the percents."""
    return _edited(model, Replacement(recorded), start_percent, end_percent)


def record(model, branch: Branch) -> tuple[object, Recorder]:
    """A clone of `model` whose h is read while it samples, and the recorder that holds it."""
    require_bottleneck(model)
    recorder = Recorder(branch)
    return _patched(model, recorder), recorder


def _edited(model, edit: Edit, start_percent: float, end_percent: float):
    sampling = model.get_model_object("model_sampling")
    return _patched(model, Patch(edit, *map(sampling.percent_to_sigma, (start_percent, end_percent))))


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
