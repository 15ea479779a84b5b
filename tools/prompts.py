"""Prompts for the demo faces, as ComfyUI's API takes them."""

from collections.abc import Sequence
from typing import Any

Node = tuple[str, dict[str, Any]]
"""Its type and its inputs; a list of a node's name and a number is a wire."""
Nodes = dict[str, Node]

RUN: dict[str, Any] = {
    "model": ["load", 0],
    "positive": ["load", 2],
    "negative": ["load", 2],
    "sampler": ["sampler", 0],
    "sigmas": ["sigmas", 0],
    "latent": ["load", 3],
    "cfg": 1.0,
}
"""Inputs of every node that samples, from the nodes of `faces`."""
VAE = ["load", 1]


def faces(sampler: str, steps: int) -> Nodes:
    """The demo model, a sampler and a schedule."""
    return {
        "load": ("HSpaceLoadDDPM", {"model": "demo faces (built in)"}),
        "sampler": ("KSamplerSelect", {"sampler_name": sampler}),
        "sigmas": ("BasicScheduler", {"model": ["load", 0], "scheduler": "normal", "steps": steps, "denoise": 1.0}),
    }


def sweep(direction: str, strengths: Sequence[float], *, rows: int, first_seed: int = 0) -> Node:
    """A sweep over the direction of a node."""
    return "HSpaceSweep", {
        **RUN,
        "vae": VAE,
        "direction": [direction, 0],
        "strengths": ", ".join(f"{strength:g}" for strength in strengths),
        "rows": rows,
        "first_seed": first_seed,
        "batch_size": 32,
        "picture_size": 64,
        "start_percent": 0.0,
        "end_percent": 1.0,
        "apply_to": "both",
        "fit": "resize",
    }


def prompt(nodes: Nodes) -> dict[str, dict[str, Any]]:
    return {id: {"class_type": kind, "inputs": inputs, "_meta": {"title": id}} for id, (kind, inputs) in nodes.items()}
