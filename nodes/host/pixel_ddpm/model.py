"""A pixel DDPM in diffusers format as a ComfyUI MODEL, so that every node and sampler works on it."""

from pathlib import Path

from comfy import model_management, model_patcher
from comfy.model_base import BaseModel
from torch import nn

from . import settings as ddpm_settings
from .files import find_files, read_json, read_weights


class DDPM(BaseModel):
    """An unconditional diffusion model of RGB pixels in -1..1. Prompts have no effect on it, so cfg belongs at 1."""

    def __init__(self, settings: ddpm_settings.DDPM, unet: nn.Module):
        super().__init__(settings, settings.prediction)
        self.diffusion_model = unet

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images it was trained on."""
        size = self.diffusion_model.config.sample_size
        return (size, size) if isinstance(size, int) else tuple(size)


def load_ddpm(folder: Path, *, disable_dynamic: bool = False) -> model_patcher.ModelPatcher:
    """The MODEL in a diffusers folder: config.json, safetensors and scheduler_config.json.

    It computes in float32 whatever the precision of the file: the models are small, and diffusers' layers don't cast
    their weights as ComfyUI's do. `ValueError` for a model that isn't covered, or a damaged or missing file.
    """
    from .unet import build_pixel_unet  # imports diffusers

    files = find_files(folder)
    settings, config = ddpm_settings.DDPM(read_json(files.scheduler)), read_json(files.config)
    model = DDPM(settings, build_pixel_unet(config, read_weights(files.weights)))
    settings.unet_config["model_channels"] = config["block_out_channels"][0]  # what core's FreeU asks for
    device, offload_device = model_management.get_torch_device(), model_management.unet_offload_device()
    patcher_class = model_patcher.ModelPatcher if disable_dynamic else model_patcher.CoreModelPatcher
    patcher = patcher_class(model.to(offload_device), load_device=device, offload_device=offload_device)
    patcher.cached_patcher_init = (load_ddpm, (folder,))  # how ComfyUI loads a second copy for a second GPU
    return patcher
