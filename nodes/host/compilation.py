"""torch.compile and patches. Compiled whole, a model keeps to the patches of its first call: so its blocks are instead.

A patch acts between the transformers' blocks, which know nothing of it. A model that is compiled block by block needs
nothing, but where derivatives are taken: there it runs as it was before.
"""

import logging
from collections.abc import Callable, Mapping

import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.model_patcher import create_model_options_clone
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers.torch_compile import TORCH_COMPILE_KWARGS, apply_torch_compile_factory

_WHOLE = "diffusion_model"


class Compilation:
    """A wrapper of the model that runs compiled what may be. Lives for one sampling call."""

    def __init__(self, settings: dict | None, *, differentiated: bool):
        self.settings = settings
        """How core compiles the model; None where another pack does."""
        self.differentiated = differentiated
        self._around: dict[tuple[torch.nn.Module, bool], Callable | None] = {}
        """What is done around a model's calls, whose patches act inside of blocks or don't."""

    def __call__(self, executor, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs):
        case = executor.class_obj, _acts_inside_blocks(transformer_options)
        if case not in self._around:
            self._around[case] = self._wrapper(*case)
        call = (x, t, c_concat, c_crossattn, control, transformer_options)
        around = self._around[case]
        return executor(*call, **kwargs) if around is None else around(executor, *call, **kwargs)

    def _wrapper(self, model, inside: bool) -> Callable | None:
        """Core's wrapper, with modules that take the place of those that are there; None where all may stay."""
        plain = {
            name.replace("._orig_mod", ""): module._orig_mod
            for name, module in model.named_modules()
            if hasattr(module, "_orig_mod")
        }
        if not plain or (_WHOLE not in plain and not self.differentiated):
            return None
        may = self.settings is not None and not self.differentiated and not inside
        blocks = _blocks(plain[_WHOLE], self.settings) if may else {}
        logging.info(
            "h-space: this model is compiled %s, it runs %s: %s.",
            "whole" if _WHOLE in plain else "in blocks",
            f"with {len(blocks)} compiled blocks" if blocks else "uncompiled",
            "derivatives are taken" if self.differentiated else "compiled whole it keeps to its first call's patches",
        )
        return apply_torch_compile_factory({**plain, **blocks})


def _blocks(unet: torch.nn.Module, settings: Mapping) -> dict[str, Callable]:
    """Compiled as the whole was, by their names in the model."""
    return {
        f"{_WHOLE}.{name}": torch.compile(module, **settings)
        for name, module in unet.named_modules()
        if isinstance(module, BasicTransformerBlock)
    }


def _acts_inside_blocks(options: dict) -> bool:
    """Whether there are patches of attention. Core compiles without watching them."""
    inside = [name for name in options.get("patches", {}) if name.startswith("attn") or name == "middle_patch"]
    return bool(inside or options.get("patches_replace"))


def compile_blocks(model_options: dict, *, differentiated: bool = False) -> None:
    """Let the sampling of these options run what may be compiled. Changes them; uncompiled once, it stays so."""
    wrappers = model_options["transformer_options"].setdefault("wrappers", {}).setdefault(WrappersMP.APPLY_MODEL, {})
    if differentiated or "hspace_compilation" not in wrappers:
        settings = model_options.get(TORCH_COMPILE_KWARGS)
        wrappers.pop("hspace_compilation", None)  # at the end it is called last, where all is compiled that will be
        wrappers["hspace_compilation"] = [Compilation(settings, differentiated=differentiated)]


def compiled_by_blocks(executor, *args, **kwargs):
    return _compiling(executor, args, kwargs, differentiated=False)


def uncompiled(executor, *args, **kwargs):
    return _compiling(executor, args, kwargs, differentiated=True)


def _compiling(executor, args, kwargs, *, differentiated: bool):
    guider = executor.class_obj
    before, guider.model_options = guider.model_options, create_model_options_clone(guider.model_options)
    compile_blocks(guider.model_options, differentiated=differentiated)
    try:
        return executor(*args, **kwargs)
    finally:
        guider.model_options = before
