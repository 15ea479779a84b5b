"""Sweep: one direction, or those of a finder, at many strengths, as a labelled grid."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...directions import Direction, DirectionSet, usable_in_sweep
from ..host import Progress, inject, sample, seed_range, single_latent
from ..ui import (
    APPLY_TO,
    BATCH_SIZE,
    CATEGORY,
    CFG,
    FIT,
    MASK,
    NEGATIVE,
    POSITIVE,
    VAE,
    HSpaceDirection,
    HSpaceDirections,
    difference_maps,
    first_seed_input,
    grid,
    parse_strengths,
    strength_labels,
    strip,
    usable_words,
    window_inputs,
)

STRIP_SIZE = 96


class HSpaceSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceSweep",
            display_name="Sweep Directions",
            category=CATEGORY,
            description="Shows what a direction does, or each of a finder's: seeds and directions down, strengths "
            "across, every picture of a seed with the same noise. Strength 0 is the picture without the edit.",
            search_aliases=["grid", "xy plot", "explore directions", "compare strengths", "slider", "difference map"],
            inputs=[
                io.Model.Input("model", tooltip="The model the direction was found in, or one of its family."),
                POSITIVE,
                NEGATIVE,
                io.Sampler.Input("sampler", tooltip="Any sampler, also ancestral and SDE ones."),
                io.Sigmas.Input("sigmas", tooltip="The schedule, from a scheduler node."),
                io.Latent.Input("latent", tooltip="One latent: empty, or a picture to start from."),
                VAE,
                io.MultiType.Input(
                    "direction",
                    [HSpaceDirection, HSpaceDirections],
                    tooltip="The direction to look at, or a finder's directions to choose from.",
                ),
                io.String.Input(
                    "strengths",
                    default="-3, -2, -1, 0, 1, 2, 3",
                    tooltip="Numbers with commas between them. 0 is off, 1 a clear edit, 3 a strong one.",
                ),
                io.Int.Input(
                    "rows",
                    default=4,
                    min=1,
                    max=64,
                    tooltip="How many seeds. 3 to 8 show what is typical, 1 is enough to choose from many directions.",
                ),
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
                    tooltip="On adds a map of where each row differs from the picture without the edit, amplified.",
                ),
                io.Int.Input(
                    "first",
                    default=1,
                    min=1,
                    max=100000,
                    optional=True,
                    tooltip="For a finder's directions: number of the first one shown, 1 being the strongest.",
                ),
                io.Int.Input(
                    "most",
                    default=9,
                    min=1,
                    max=64,
                    optional=True,
                    tooltip="For a finder's directions: most of them shown. 3 to 12.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="The labelled sheet."),
                io.Image.Output(display_name="pictures", tooltip="The bare pictures, row by row."),
                io.Image.Output(
                    display_name="strip", tooltip="The first row alone, small: a thumbnail for Save Direction."
                ),
                HSpaceDirection.Output(
                    display_name="direction",
                    tooltip="The direction, the first shown of several, with the range of strengths in which it is "
                    "usable. To Save Direction.",
                ),
                io.String.Output(
                    display_name="info", tooltip="From which strength to which each direction shown is usable."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model, positive, negative, sampler, sigmas, latent, vae, direction, strengths, rows, first_seed,
        batch_size, cfg, picture_size, start_percent, end_percent, apply_to, fit, mask=None, difference=False,
        first=1, most=9,
    ):  # fmt: skip
        if mask is not None and mask.ndim == 3 and len(mask) > 1:
            raise ValueError(f"A sweep takes one mask for all pictures: got {len(mask)}. Pick one.")
        columns, seeds = parse_strengths(strengths), seed_range(first_seed, rows)
        shown, latent = numbered(direction, first, most), single_latent(model, latent)
        run = dict(positive=positive, negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas, latent=latent)
        window = dict(start_percent=start_percent, end_percent=end_percent, apply_to=apply_to, fit=fit, mask=mask)
        wanted = [*columns, 0.0] if difference else columns
        drawn = sampled(model, shown, seeds, wanted, vae, batch_size, run, window)
        pictures = drawn[:, : len(columns)]
        maps = [difference_maps(pictures, drawn[:, -1:])[:, None]] if difference else []
        title, row_labels = words(direction, seeds, shown)
        sheet = grid(
            torch.cat([pictures, *maps], 1),
            title=title,
            row_labels=row_labels,
            column_labels=[*strength_labels(columns), *["change"] * len(maps)],
            highlighted=[i for i, strength in enumerate(columns) if strength == 0],
            size=picture_size,
        )
        measured = with_usable(shown, pictures, columns)
        info = "\n".join(f"{each.name}: {usable_words(each.usable)}" for each in measured)
        bare, thumbnail = pictures.flatten(0, 1), strip(pictures[0], STRIP_SIZE)
        return io.NodeOutput(sheet, bare, thumbnail, measured[0], info, ui=ui.PreviewImage(sheet, cls=cls))


def with_usable(shown: Mapping[int, Direction], pictures: Tensor, strengths: Sequence[float]) -> list[Direction]:
    """Each direction with the range in which its rows of `pictures` show it to be usable; as it was if they don't."""
    count = len(shown)
    measured = [usable_in_sweep(pictures[place::count], strengths) for place in range(count)]
    return [replace(each, usable=usable or each.usable) for each, usable in zip(shown.values(), measured, strict=True)]


def numbered(direction: Direction | DirectionSet, first: int, most: int) -> dict[int, Direction]:
    """Those to show by the numbers that Pick Direction takes; a lone one is number 1."""
    if not isinstance(direction, DirectionSet):
        return {1: direction}
    last = min(first + most - 1, max(first, len(direction)))
    return {number: direction[number - 1] for number in range(first, last + 1)}


def sampled(
    model,
    directions: Mapping[int, Direction],
    seeds: Sequence[int],
    strengths: Sequence[float],
    vae,
    batch_size: int,
    run: Mapping[str, object],
    window: Mapping[str, object],
) -> Tensor:
    """Pictures `(rows, strengths, height, width, 3)`, a row for each seed with each direction.

    Strength 0 of a seed is sampled once for all directions. A batch holds pictures of several directions: each is added
    to its own, and 0 times to the others.
    """
    rows = [
        [(seed, number if strength else 0, strength) for strength in strengths]
        for seed in seeds
        for number in directions
    ]
    cells = list(dict.fromkeys(chain.from_iterable(rows)))
    progress = Progress(model, math.ceil(len(cells) / batch_size) * (len(run["sigmas"]) - 1))
    decoded = []
    for start in range(0, len(cells), batch_size):
        batch, edited = cells[start : start + batch_size], model
        for number, direction in directions.items():
            edited = inject(edited, direction, [strength * (of == number) for _, of, strength in batch], **window)
        latents = sample(edited, **run, seeds=[seed for seed, _, _ in batch], on_step=progress)
        decoded.append(vae.decode(latents))
    place = {cell: i for i, cell in enumerate(cells)}
    return torch.cat(decoded).cpu()[torch.tensor([[place[cell] for cell in row] for row in rows])]


def words(
    direction: Direction | DirectionSet, seeds: Sequence[int], shown: Mapping[int, Direction]
) -> tuple[str, list[str]]:
    """The sheet's title, and a label for each row."""
    if not isinstance(direction, DirectionSet):
        return direction.name, [f"seed {seed}" for seed in seeds]
    names = [f"{number}: {each.name}" for number, each in shown.items()]
    if len(seeds) == 1:
        return f"seed {seeds[0]}", names
    return f"seeds {seeds[0]} to {seeds[-1]}", [f"seed {seed}, {name}" for seed in seeds for name in names]


NODES = [HSpaceSweep]
