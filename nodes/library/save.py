"""Save a direction as a small file."""

from dataclasses import replace as with_changes
from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ...directions import safe_path, save_direction
from ..host import DIRECTIONS, free_path
from ..ui import CATEGORY, HSpaceDirection, data_uri, usable_words


class HSpaceSaveDirection(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceSaveDirection",
            display_name="Save Direction",
            category=CATEGORY,
            description="Saves a direction to models/hspace_directions, with everything needed to use it and the "
            "recipe that found it.",
            search_aliases=["export direction", "write direction", "share"],
            inputs=[
                HSpaceDirection.Input("direction", tooltip="The direction to keep."),
                io.String.Input(
                    "name",
                    default="",
                    tooltip='Name of the file, such as "smile"; "people/smile" makes a sub-folder. Empty takes the '
                    "direction's own name.",
                ),
                io.Boolean.Input(
                    "replace",
                    default=False,
                    tooltip="Off keeps an older, different file of that name and adds a number to the new one.",
                ),
                io.Image.Input(
                    "thumbnail",
                    optional=True,
                    tooltip="What the model library shows for it, such as Sweep's strip. Of several the first.",
                ),
                io.String.Input(
                    "author",
                    default="",
                    optional=True,
                    tooltip="Who made it, for those you share it with. Empty leaves what the direction says.",
                ),
            ],
            outputs=[HSpaceDirection.Output(display_name="direction", tooltip="The same direction, named as saved.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, direction, name, replace, thumbnail=None, author=""):
        direction = direction.renamed(Path(name.strip() or direction.name).name)
        direction = with_changes(direction, author=author.strip() or direction.author)
        root = Path(folder_paths.get_folder_paths(DIRECTIONS)[0])
        path = safe_path(root, name.strip() or direction.name)
        if not replace:
            path = free_path(path, direction)
        save_direction(direction, path, thumbnail="" if thumbnail is None else data_uri(thumbnail))
        said = f"Saved as {path.relative_to(root).as_posix()}\nUsable: {usable_words(direction.usable)}"
        return io.NodeOutput(direction, ui=ui.PreviewText(said))


NODES = [HSpaceSaveDirection]
