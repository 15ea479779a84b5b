"""Capture: a model, pictures, and h recorded while they are sampled."""

from . import draw_faces, invert_image, load_ddpm, probe, sample_bank

NODES = [node for module in (load_ddpm, draw_faces, sample_bank, invert_image, probe) for node in module.NODES]
