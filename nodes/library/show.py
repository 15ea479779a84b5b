"""Show Direction: what is in a direction, as a picture and in words."""

import json
import textwrap

from comfy_api.latest import io, ui

from ...directions import Direction, layout, norms
from ..ui import CATEGORY, HSpaceDirection, card, outline

CARD_LINES, CARD_WIDTH = 16, 50


class HSpaceShowDirection(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceShowDirection",
            display_name="Show Direction",
            category=CATEGORY,
            description="Shows what is in a direction: the model it fits, how it was found and by whom, what strength "
            "1 means, when in the sampling it is strong, and where in the picture.",
            search_aliases=["inspect", "info", "metadata", "recipe", "heat map", "what is this direction"],
            inputs=[
                HSpaceDirection.Input("direction", tooltip="From Load Direction, or any node that makes one."),
                io.Image.Input(
                    "image", optional=True, tooltip="A picture to lay under the heat map. The first counts."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="card", tooltip="All of it as a picture."),
                io.String.Output(display_name="info", tooltip="All of it as text, with the whole recipe."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, direction, image=None):
        about = facts(direction)
        picture = card(
            shortened(
                "\n".join(f"{name}: {value}" for name, value in about.items()) + "\n" + recipe_outline(direction)
            ),
            direction.timesteps,
            norms(direction),
            layout(direction),
            title=direction.name,
            picture=None if image is None else image[0].cpu(),
        )
        info = "\n".join(f"{name}: {value}" for name, value in {"name": direction.name, **about}.items())
        return io.NodeOutput(picture, f"{info}\n{recipe_outline(direction)}", ui=ui.PreviewImage(picture, cls=cls))


def facts(direction: Direction) -> dict[str, str]:
    source, (count, *size) = direction.source, direction.delta.shape
    first, last = (f"{float(direction.timesteps[i]):.0f}" for i in (0, -1))
    return {
        "found by": direction.method,
        "strength 1": direction.unit,
        "made by": direction.author or "not said",
        "fits models of family": source.family,
        "weights it was found in": source.fingerprint,
        "place in the UNet": f"{source.site}, {source.branch} side",
        "picture": f"{source.image_size[0]}x{source.image_size[1]}",
        "bottleneck": f"{size[0]} channels, {size[2]}x{size[1]}",
        "timesteps": f"{count}, {first} to {last}" if count > 1 else "the same at all",
    }


def recipe_outline(direction: Direction) -> str:
    return "recipe\n" + "\n".join(outline(json.loads(direction.recipe), depth=1))


def shortened(text: str) -> str:
    """`text` in lines that fit on the card, without those for which there is no room."""
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, CARD_WIDTH, subsequent_indent="    ")]
    return "\n".join(lines if len(lines) <= CARD_LINES else [*lines[: CARD_LINES - 1], "... (the rest is in info)"])


NODES = [HSpaceShowDirection]
