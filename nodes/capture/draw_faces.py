"""Drawings of faces that no model has made: pictures to invert where none of one's own is at hand."""

from dataclasses import fields, replace

import numpy as np
import torch
from comfy_api.latest import io

from ...demo.faces import LOWEST_FACE, Face, render, sample_face
from ..ui import CATEGORY, parse_settings, seed_input


class HSpaceDrawFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceDrawFaces",
            display_name="Draw Demo Faces",
            category=CATEGORY,
            description="Draws cartoon faces as the demo model was trained on, 64 pixels wide: real pictures to try "
            "Invert Image with. For your own pictures use Load Image in its place.",
            search_aliases=["demo", "example pictures", "test faces", "render"],
            inputs=[
                io.Int.Input("count", default=1, min=1, max=10000, tooltip="How many faces, each another."),
                seed_input("Decides what they look like, but for what is fixed."),
                io.String.Input(
                    "fixed",
                    default="",
                    tooltip='What all of them have, such as "glasses = 1, age = 0.8". Empty leaves everything to '
                    "chance. " + ", ".join(field.name for field in fields(Face)) + ".",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="To VAE Encode, and Invert Image after it.")],
        )

    @classmethod
    def execute(cls, count, seed, fixed):
        changes = parse_settings(fixed, {field.name: (getattr(LOWEST_FACE, field.name), 1.0) for field in fields(Face)})
        rng = np.random.default_rng(seed)
        faces = [replace(sample_face(rng), **changes) for _ in range(count)]
        return io.NodeOutput(torch.from_numpy(np.stack([np.asarray(render(face)) for face in faces])) / 255)


NODES = [HSpaceDrawFaces]
