"""The bottleneck of a ComfyUI model: where it is, what models have one, and how a patch gets there."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP

from ...directions import SITE, Direction, brief
from .branches import NAMING


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
    """`ValueError` unless `direction` was found in a model of this one's family, and where this pack edits it."""
    require_bottleneck(model)
    if direction.source.family != model_family(model):
        raise ValueError(
            f'"{direction.name}" was found in another kind of model: got {direction.source.family}, wanted '
            f"{model_family(model)}. Find it again with this model, or load the model it was found in."
        )
    if direction.source.site != SITE:
        raise ValueError(
            f'"{direction.name}" was found at another place in the UNet: got {brief(direction.source.site)}, wanted '
            f"{SITE}, the only one this pack edits. Find it again with this model."
        )


def patched(model, patch: Callable[[dict], dict]):
    """A clone of `model` with one more patch at its bottleneck."""
    patched = wrapped(model)
    patched.set_model_middle_block_after_patch(patch)
    return patched


def wrapped(model):
    """A clone of `model` that runs uncompiled and knows the names of its prompts, as this pack's patches need it."""
    wrapped = model.clone()
    for kind, wrapper in WRAPPERS:
        wrapped.add_wrapper_with_key(kind, "hspace", wrapper)
    return wrapped


def uncompiled(executor, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs):
    """Calls a model that ComfyUI compiles as it was before: compiled, it keeps to the patches of its first call."""
    compiled = "torch.compile" in transformer_options["wrappers"][WrappersMP.APPLY_MODEL]
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)


WRAPPERS = ((WrappersMP.APPLY_MODEL, uncompiled), *NAMING)
