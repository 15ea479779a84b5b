"""Show Direction: what is in a direction, what it shares with others, and how much each of a finder's matters."""

import json
import textwrap
from collections.abc import Sequence

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...directions import Direction, DirectionSet, cosines, layout, norms
from ..ui import (
    CATEGORY,
    HSpaceDirection,
    HSpaceDirections,
    below,
    card,
    connected,
    csv_table,
    directions_input,
    heat_maps,
    outline,
    spectrum_plot,
    usable_words,
)

CARD_LINES, CARD_WIDTH = 16, 50


class HSpaceShowDirection(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceShowDirection",
            display_name="Show Direction",
            category=CATEGORY,
            description="Shows what is in a direction: the model it fits, how it was found and by whom, what strength "
            "1 means, when in the sampling it is strong, and where in the picture; with others connected the cosine of "
            "each pair. Of a finder's directions it plots how much each matters: explained variance (PCA), or singular "
            "values (Jacobian).",
            search_aliases=[
                "inspect",
                "info",
                "metadata",
                "recipe",
                "heat map",
                "compare directions",
                "cosine similarity",
                "plot spectrum",
                "explained variance",
                "singular values",
            ],
            inputs=[
                io.MultiType.Input(
                    "direction",
                    [HSpaceDirection, HSpaceDirections],
                    tooltip="From Load Direction, or any node that makes one; or a finder's directions.",
                ),
                io.Image.Input(
                    "image", optional=True, tooltip="A picture to lay under the heat map. The first counts."
                ),
                directions_input("others", "Directions of the same model, to compare this one with.", fewest=0),
                io.Int.Input(
                    "most",
                    default=7,
                    min=1,
                    max=49,
                    optional=True,
                    tooltip="For a finder's directions: most curves drawn, strongest first. 3 to 10.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="card", tooltip="All of it as a picture."),
                io.String.Output(display_name="info", tooltip="All of it as text, with the whole recipe."),
                io.String.Output(
                    display_name="csv",
                    tooltip="The cosines, or the numbers of all curves, as text with commas, for a spreadsheet. Empty "
                    "for one direction alone.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, direction, image=None, others=None, most=7):
        others = connected(others)
        if isinstance(direction, DirectionSet):
            if others:
                raise ValueError(
                    f"The directions of a finder are not compared: got {len(others)} others. Take one out of them with "
                    "Pick Direction, or disconnect others."
                )
            shown, info, table = of_set(direction, most)
        else:
            shown, info, table = card_of(direction, image), about(direction), ""
            if others:
                heat_map, table = compared([direction, *others])
                shown = below(shown, heat_map)
        return io.NodeOutput(shown, info, table, ui=ui.PreviewImage(shown, cls=cls))


def card_of(direction: Direction, image: Tensor | None) -> Tensor:
    words = "\n".join(f"{name}: {value}" for name, value in facts(direction).items())
    return card(
        shortened(f"{words}\n{recipe_outline(direction)}"),
        direction.timesteps,
        norms(direction),
        layout(direction),
        title=direction.name,
        picture=None if image is None else image[0].cpu(),
    )


def about(direction: Direction) -> str:
    told = {"name": direction.name, **facts(direction)}
    return "\n".join(f"{name}: {value}" for name, value in told.items()) + f"\n{recipe_outline(direction)}"


def facts(direction: Direction) -> dict[str, str]:
    source, count = direction.source, len(direction.timesteps)
    first, last = (f"{float(direction.timesteps[i]):.0f}" for i in (0, -1))
    return {
        "found by": direction.method,
        "strength 1": direction.unit,
        "usable": usable_words(direction.usable),
        "made by": direction.author or "not said",
        "fits models of family": source.family,
        "weights it was found in": source.fingerprint,
        "side of the guidance": source.branch,
        "picture": f"{source.image_size[0]}x{source.image_size[1]}",
        "sites": ", ".join(
            f"{site} ({channels} channels, {width}x{height})"
            for site, (channels, height, width) in direction.shapes.items()
        ),
        "timesteps": f"{count}, {first} to {last}" if count > 1 else "the same at all",
    }


def recipe_outline(direction: Direction) -> str:
    return "recipe\n" + "\n".join(outline(json.loads(direction.recipe), depth=1))


def shortened(text: str) -> str:
    """`text` in lines that fit on the card, without those for which there is no room."""
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, CARD_WIDTH, subsequent_indent="    ")]
    return "\n".join(lines if len(lines) <= CARD_LINES else [*lines[: CARD_LINES - 1], "... (the rest is in info)"])


def compared(directions: Sequence[Direction]) -> tuple[Tensor, str]:
    """The cosine of each pair, as a heat map and as text with commas."""
    names, table = [direction.name for direction in directions], cosines(directions)
    rows = [[name, *row] for name, row in zip(names, table.tolist(), strict=True)]
    heat_map = heat_maps({"": table}, title="Cosine", rows=names, columns=names, bound=1.0)
    return heat_map, csv_table(["", *names], rows)


def of_set(directions: DirectionSet, most: int) -> tuple[Tensor, str, str]:
    """The spectrum: a plot of `most` curves, a line for each direction, and all numbers as text with commas."""
    curves, over_timesteps = curves_of(directions)
    x_name, y_name = "timestep" if over_timesteps else "number", directions.spectrum_name
    plot = spectrum_plot(dict(list(curves.items())[:most]), title=y_name, x_label=x_name, falling=over_timesteps)
    highest = directions.spectrum.amax(1).tolist()
    lines = [
        f"{number}: {each.name}, {y_name} up to {value:.3g}, found by {each.method}"
        for number, (each, value) in enumerate(zip(directions, highest, strict=True), 1)
    ]
    rows = [(name, *point) for name, (x, y) in curves.items() for point in zip(x.tolist(), y.tolist(), strict=True)]
    return plot, "\n".join(lines), csv_table(["curve", x_name, y_name], rows)


def curves_of(directions: DirectionSet) -> tuple[dict[str, tuple[Tensor, Tensor]], bool]:
    """x and y by the curve's name, and whether x is the timestep: a curve for each direction then.

    Directions of one timestep each are put into a curve for each timestep, over their numbers.
    """
    timesteps, spectrum = directions[0].timesteps, directions.spectrum
    if spectrum.shape[1] > 1:
        named = zip(directions, spectrum, strict=True)
        return {f"{i}: {each.name}": (timesteps, values) for i, (each, values) in enumerate(named, 1)}, True
    groups: dict[str, list[float]] = {}
    for each, value in zip(directions, spectrum[:, 0].tolist(), strict=True):
        groups.setdefault(f"timestep {each.timesteps[0]:.0f}", []).append(value)
    return {name: (torch.arange(1, len(y) + 1), torch.tensor(y)) for name, y in groups.items()}, False


NODES = [HSpaceShowDirection]
