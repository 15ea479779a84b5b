"""Models brought to where they compute, while others are at work."""

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher


def require_loaded(*patchers: ModelPatcher) -> None:
    """Has ComfyUI load what it has not, or has put away since, beside the models that are in use."""
    loaded = set(map(id, comfy.model_management.loaded_models()))
    missing = [patcher for patcher in patchers if id(patcher) not in loaded]
    if missing:
        in_use = filter(None, comfy.model_management.loaded_models(only_currently_used=True))  # None: it is gone
        with torch.inference_mode():  # as ComfyUI runs nodes
            comfy.model_management.load_models_gpu([*in_use, *missing])
