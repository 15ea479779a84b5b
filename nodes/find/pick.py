"""Pick one of the directions that a finder found."""

from comfy_api.latest import io

from ..ui import CATEGORY, HSpaceDirection, HSpaceDirections


class HSpacePickDirection(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpacePickDirection",
            display_name="Pick Direction",
            category=CATEGORY,
            description="Takes one direction out of those a finder found, and names it.",
            search_aliases=["select direction", "choose component", "component"],
            inputs=[
                HSpaceDirections.Input("directions", tooltip="From a finder such as Find Directions (PCA)."),
                io.Int.Input("number", default=1, min=1, max=100000, tooltip="Which one: 1 is the strongest."),
                io.String.Input(
                    "name",
                    default="",
                    tooltip='What you see it do, such as "age". Empty keeps the finder\'s name.',
                ),
                io.Boolean.Input(
                    "flip",
                    default=False,
                    tooltip="Swap its two ends: a found direction may as well point to young as to old.",
                ),
            ],
            outputs=[HSpaceDirection.Output(display_name="direction", tooltip="To Inject, Sweep or Save Direction.")],
        )

    @classmethod
    def execute(cls, directions, number, name, flip):
        direction = directions[number - 1]
        picked = -direction if flip else direction
        return io.NodeOutput(picked.renamed(name.strip() or picked.name))


NODES = [HSpacePickDirection]
