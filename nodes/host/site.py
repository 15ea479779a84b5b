"""The bottleneck of a ComfyUI model: where it is, what models have one, and how a patch gets there."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Literal

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP

from ...directions import Direction

Branch = Literal["positive", "negative"]
BRANCHES: dict[int, Branch] = {0: "positive", 1: "negative"}
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
    chunks = [i for i, kind in enumerate(kinds) if BRANCHES.get(kind) == branch]
    if len(chunks) > 1:
        raise ValueError(
            f"The {branch} conditioning has {len(chunks)} parts (areas or combined prompts), wanted one: use a single "
            "prompt."
        )
    return chunks[0] if chunks else None


def patched(model, patch: Callable[[dict], dict]):
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
