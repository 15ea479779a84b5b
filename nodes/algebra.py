"""Combine directions, make them independent, and compare them."""

from comfy_api.latest import io, ui

from ..directions import combine, cosines, orthogonalise
from .inputs import SPAN
from .plots import heat_maps
from .text_fields import csv_table, one_each, parse_strengths
from .types import CATEGORY, HSpaceDirection


def directions_input(id: str, tooltip: str, *, fewest: int) -> io.Autogrow.Input:
    """A list of directions that grows as they are connected."""
    direction = HSpaceDirection.Input("direction", tooltip=tooltip, optional=fewest == 0)
    template = io.Autogrow.TemplatePrefix(direction, prefix="direction", min=fewest, max=50)
    return io.Autogrow.Input(id, template=template, optional=fewest == 0, tooltip=tooltip)


def connected(directions: dict | None) -> list:
    return [direction for direction in (directions or {}).values() if direction is not None]


class HSpaceCombine(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceCombine",
            display_name="Combine Directions",
            category=CATEGORY,
            description="Adds directions, each with its own strength, into one that can be saved, swept and injected "
            "as a whole. A negative strength subtracts.",
            search_aliases=["add directions", "sum", "mix", "merge", "blend", "subtract", "stack"],
            inputs=[
                directions_input(
                    "directions", "Any number, of one model. A new place appears as you connect.", fewest=1
                ),
                io.String.Input(
                    "strengths",
                    default="1",
                    tooltip='One number for all, or one for each direction in order, such as "1, -0.5". 1 takes it as '
                    "it is.",
                ),
                io.String.Input("name", default="", tooltip="Name of the result. Empty puts the names together."),
            ],
            outputs=[HSpaceDirection.Output(display_name="direction", tooltip="Strength 1 is the whole sum.")],
        )

    @classmethod
    def execute(cls, directions, strengths, name):
        directions = connected(directions)
        return io.NodeOutput(combine(directions, one_each(parse_strengths(strengths), len(directions)), name.strip()))


class HSpaceOrthogonalise(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceOrthogonalise",
            display_name="Orthogonalise Direction",
            category=CATEGORY,
            description="Makes an edit independent of others: removes from a direction what it has in common with the "
            "protected ones, so that glasses don't make the face older (Haas et al. 2024, Eq. 12).",
            search_aliases=["disentangle", "project out", "independent", "orthogonalize", "gram-schmidt", "protect"],
            inputs=[
                HSpaceDirection.Input("direction", tooltip="The edit to clean."),
                directions_input("protected", "What it must not change. Any number; they may overlap.", fewest=1),
                SPAN,
                io.String.Input(
                    "name", default="", tooltip='Name of the result. Empty adds "independent" to the direction\'s.'
                ),
            ],
            outputs=[
                HSpaceDirection.Output(display_name="direction", tooltip="The cleaned edit, in the same unit."),
                io.String.Output(display_name="info", tooltip="How much of it is left, and what it leaned on."),
            ],
        )

    @classmethod
    def execute(cls, direction, protected, span, name):
        protected = connected(protected)
        cleaned = orthogonalise(direction, protected, span=span)
        kept, *shared = cosines([direction, cleaned, *protected])[0, 1:].tolist()
        leaned = ", ".join(f"{other.name} {cosine:+.2f}" for other, cosine in zip(protected, shared, strict=True))
        info = f'{kept:.0%} of "{direction.name}" is left. Cosine with the protected before: {leaned}.'
        cleaned = cleaned.renamed(name.strip() or f"{direction.name}, independent")
        return io.NodeOutput(cleaned, info, ui=ui.PreviewText(info))


class HSpaceCompare(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceCompare",
            display_name="Compare Directions",
            category=CATEGORY,
            description="Shows how much directions have in common: the cosine of each pair, 1 for the same, 0 for "
            "independent, -1 for opposite.",
            search_aliases=["cosine similarity", "overlap", "heat map", "correlation"],
            inputs=[directions_input("directions", "Any number, of one model.", fewest=2)],
            outputs=[
                io.Image.Output(display_name="heat_map", tooltip="The table as a picture."),
                io.String.Output(display_name="csv", tooltip="The table as text with commas, for a spreadsheet."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, directions):
        directions = connected(directions)
        names, table = [direction.name for direction in directions], cosines(directions)
        picture = heat_maps({"": table}, title="Cosine", rows=names, columns=names, bound=1.0)
        rows = [[name, *row] for name, row in zip(names, table.tolist(), strict=True)]
        return io.NodeOutput(picture, csv_table(["", *names], rows), ui=ui.PreviewImage(picture, cls=cls))


NODES = [HSpaceCombine, HSpaceOrthogonalise, HSpaceCompare]
