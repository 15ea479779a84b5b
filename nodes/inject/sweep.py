"""Sweep: one direction at many strengths, as a labelled grid."""

import math

import torch
from comfy_api.latest import io, ui

from ..host import Progress, inject, sample, seed_range, single_latent
from ..ui import (
    APPLY_TO,
    BATCH_SIZE,
    CATEGORY,
    CFG,
    FIT,
    MASK,
    HSpaceDirection,
    difference_maps,
    first_seed_input,
    grid,
    parse_strengths,
    strength_labels,
    strip,
    window_inputs,
)

STRIP_SIZE = 96


class HSpaceSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceSweep",
            display_name="Sweep Direction",
            category=CATEGORY,
            description="Shows what a direction does: seeds down, strengths across, every strength of a seed with the "
            "same noise. Strength 0 is the picture without the edit.",
            search_aliases=["grid", "xy plot", "compare strengths", "preview direction", "slider"],
            inputs=[
                io.Model.Input("model", tooltip="The model the direction was found in, or one of its family."),
                io.Conditioning.Input("positive", tooltip="As for the sampler."),
                io.Conditioning.Input("negative", tooltip="As for the sampler. Not used at cfg 1."),
                io.Sampler.Input("sampler", tooltip="Any sampler, also ancestral and SDE ones."),
                io.Sigmas.Input("sigmas", tooltip="The schedule, from a scheduler node."),
                io.Latent.Input("latent", tooltip="One latent: empty, or a picture to start from."),
                io.Vae.Input("vae", tooltip="Decodes the pictures."),
                HSpaceDirection.Input("direction", tooltip="The direction to look at."),
                io.String.Input(
                    "strengths",
                    default="-3, -2, -1, 0, 1, 2, 3",
                    tooltip="Numbers with commas between them. 0 is off, 1 a clear edit, 3 a strong one.",
                ),
                io.Int.Input("rows", default=4, min=1, max=64, tooltip="How many seeds. 3 to 8 show what is typical."),
                first_seed_input("row"),
                BATCH_SIZE,
                CFG,
                io.Int.Input(
                    "picture_size",
                    default=192,
                    min=32,
                    max=2048,
                    tooltip="Longer side of each picture in the grid, in pixels. 128 to 512.",
                ),
                *window_inputs(),
                APPLY_TO,
                FIT,
                MASK,
                io.Boolean.Input(
                    "difference",
                    default=False,
                    optional=True,
                    tooltip="On adds a map of where each row changes, amplified. Needs strength 0 among the strengths.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="The labelled sheet."),
                io.Image.Output(display_name="pictures", tooltip="The bare pictures, row by row."),
                io.Image.Output(
                    display_name="strip", tooltip="The first row alone, small: a thumbnail for Save Direction."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model, positive, negative, sampler, sigmas, latent, vae, direction, strengths, rows, first_seed,
        batch_size, cfg, picture_size, start_percent, end_percent, apply_to, fit, mask=None,
        difference=False,
    ):  # fmt: skip
        columns = parse_strengths(strengths)
        if difference and 0 not in columns:
            raise ValueError(f"A difference is one from strength 0: got strengths {strengths}. Add 0 to them.")
        if mask is not None and mask.ndim == 3 and len(mask) > 1:
            raise ValueError(f"A sweep takes one mask for all pictures: got {len(mask)}. Pick one.")
        latent = single_latent(model, latent)
        cells = [(seed, strength) for seed in seed_range(first_seed, rows) for strength in columns]
        progress = Progress(model, math.ceil(len(cells) / batch_size) * (len(sigmas) - 1))
        window = dict(start_percent=start_percent, end_percent=end_percent, apply_to=apply_to, fit=fit, mask=mask)
        decoded = []
        for first in range(0, len(cells), batch_size):
            seeds, batch = zip(*cells[first : first + batch_size], strict=True)
            edited = inject(model, direction, batch, **window)
            latents = sample(
                edited, positive=positive, negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas, latent=latent,
                seeds=seeds, on_step=progress,
            )  # fmt: skip
            decoded.append(vae.decode(latents))
        pictures = torch.cat(decoded).cpu().unflatten(0, (rows, len(columns)))
        maps = [difference_maps(pictures, pictures[:, columns.index(0), None])[:, None]] if difference else []
        sheet = grid(
            torch.cat([pictures, *maps], 1),
            title=direction.name,
            row_labels=[f"seed {first_seed + row}" for row in range(rows)],
            column_labels=[*strength_labels(columns), *["change"] * len(maps)],
            highlighted=[i for i, strength in enumerate(columns) if strength == 0],
            size=picture_size,
        )
        preview = ui.PreviewImage(sheet, cls=cls)
        return io.NodeOutput(sheet, pictures.flatten(0, 1), strip(pictures[0], STRIP_SIZE), ui=preview)


NODES = [HSpaceSweep]
