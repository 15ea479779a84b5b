"""Combine directions into one."""

from comfy_api.latest import io

from ...directions import combine
from ..ui import CATEGORY, HSpaceDirection, connected, directions_input, one_each, parse_strengths


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


NODES = [HSpaceCombine]
