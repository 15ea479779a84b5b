"""Capture: a model, pictures, and h recorded while they are sampled."""

from . import compare_sites, draw_faces, invert_image, load_ddpm, load_demo_faces, probe, sample_bank

_FILES = load_ddpm, load_demo_faces, draw_faces, sample_bank, invert_image, probe, compare_sites

NODES = [node for module in _FILES for node in module.NODES]
