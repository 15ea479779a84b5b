"""Compare directions."""

from comfy_api.latest import io, ui

from ...directions import cosines
from ..ui import CATEGORY, connected, csv_table, directions_input, heat_maps


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


NODES = [HSpaceCompare]
