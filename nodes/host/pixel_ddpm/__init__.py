"""The papers' kind of model, an unconditional pixel DDPM in diffusers format, as a ComfyUI MODEL."""

from .files import find_files, is_ddpm
from .model import load_ddpm

__all__ = ["find_files", "is_ddpm", "load_ddpm"]
