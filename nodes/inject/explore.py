"""Explore: many directions on one picture, to choose from."""

import torch
from comfy_api.latest import io, ui

from ..host import Progress, inject, sample, single_latent
from ..ui import (
    APPLY_TO,
    CATEGORY,
    CFG,
    FIT,
    MASK,
    HSpaceDirections,
    difference_maps,
    grid,
    parse_strengths,
    seed_input,
    strength_labels,
    window_inputs,
)


class HSpaceExplore(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceExplore",
            display_name="Explore Directions",
            category=CATEGORY,
            description="Shows what each direction of a finder does to one picture: directions down, strengths across, "
            "and a map of where the picture changes. The number beside a row is the one Pick Direction takes.",
            search_aliases=["grid", "compare directions", "candidates", "preview", "choose", "difference map"],
            inputs=[
                io.Model.Input("model", tooltip="The model the directions were found in, or one of its family."),
                io.Conditioning.Input("positive", tooltip="As for the sampler."),
                io.Conditioning.Input("negative", tooltip="As for the sampler. Not used at cfg 1."),
                io.Sampler.Input("sampler", tooltip="Any sampler."),
                io.Sigmas.Input("sigmas", tooltip="The schedule, from a scheduler node."),
                io.Latent.Input("latent", tooltip="One latent: empty, or a picture to start from."),
                io.Vae.Input("vae", tooltip="Decodes the pictures."),
                HSpaceDirections.Input("directions", tooltip="From a finder: Jacobian or PCA."),
                seed_input(
                    "The picture's seed. For the Jacobian: the seed of its picture, or another to see what transfers."
                ),
                io.String.Input(
                    "strengths",
                    default="-3, -1.5, 0, 1.5, 3",
                    tooltip="Numbers with commas between them. 0 is off, 1 a clear edit, 3 a strong one.",
                ),
                io.Int.Input("first", default=1, min=1, max=100000, tooltip="Number of the first direction shown."),
                io.Int.Input("rows", default=9, min=1, max=64, tooltip="Most directions shown. 3 to 12."),
                CFG,
                io.Int.Input(
                    "picture_size",
                    default=160,
                    min=32,
                    max=2048,
                    tooltip="Longer side of each picture in the grid, in pixels. 128 to 512.",
                ),
                *window_inputs(),
                APPLY_TO,
                FIT,
                MASK,
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="The labelled sheet."),
                io.Image.Output(display_name="pictures", tooltip="The bare pictures, row by row."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model, positive, negative, sampler, sigmas, latent, vae, directions, seed, strengths, first, rows, cfg,
        picture_size, start_percent, end_percent, apply_to, fit, mask=None,
    ):  # fmt: skip
        columns, latent = parse_strengths(strengths), single_latent(model, latent)
        shown = [directions[i] for i in range(first - 1, min(first - 1 + rows, max(first, len(directions))))]
        run = dict(positive=positive, negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas, latent=latent)
        window = dict(start_percent=start_percent, end_percent=end_percent, apply_to=apply_to, fit=fit, mask=mask)
        progress = Progress(model, (1 + len(shown) * len(columns)) * (len(sigmas) - 1))
        plain = vae.decode(sample(model, **run, seeds=[seed], on_step=progress))
        edited = [
            vae.decode(sample(inject(model, each, [strength], **window), **run, seeds=[seed], on_step=progress))
            for each in shown
            for strength in columns
        ]
        pictures = torch.cat(edited).unflatten(0, (len(shown), len(columns)))
        maps = difference_maps(pictures, plain[:, None])
        sheet = grid(
            torch.cat([pictures, maps[:, None]], 1),
            title=f"seed {seed}",
            row_labels=[f"{number}: {each.name}" for number, each in enumerate(shown, first)],
            column_labels=[*strength_labels(columns), "change"],
            highlighted=[i for i, strength in enumerate(columns) if strength == 0],
            size=picture_size,
        )
        return io.NodeOutput(sheet, pictures.flatten(0, 1), ui=ui.PreviewImage(sheet, cls=cls))


NODES = [HSpaceExplore]
