"""Load a direction from its file."""

import folder_paths
from comfy_api.latest import io

from ...directions import load_direction
from ..host import DIRECTIONS, direction_file
from ..ui import CATEGORY, HSpaceDirection


class HSpaceLoadDirection(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceLoadDirection",
            display_name="Load Direction",
            category=CATEGORY,
            description="Loads a saved direction from models/hspace_directions, or one that comes with the pack.",
            search_aliases=["open direction", "slider", "concept", "edit", "attribute"],
            inputs=[
                io.Combo.Input(
                    "direction",
                    options=folder_paths.get_filename_list(DIRECTIONS),
                    tooltip="A file in models/hspace_directions. Press R to see new ones.",
                ),
                io.String.Input(
                    "if_missing",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="What those are told who get your workflow but not the file: where it is, or the recipe to "
                    "make it again, as Show Direction's info gives it.",
                ),
            ],
            outputs=[HSpaceDirection.Output(display_name="direction", tooltip="To Inject Direction or Sweep.")],
        )

    @classmethod
    def validate_inputs(cls, direction, if_missing=""):
        if direction in folder_paths.get_filename_list(DIRECTIONS):
            return True
        told = if_missing.strip() if isinstance(if_missing, str) else ""
        return (
            f'got "{direction}", which is not in models/{DIRECTIONS} here: wanted one of the files listed there. Get '
            "the file from whoever shared the workflow, put it there and press R; or find the direction again. "
            + (f"The workflow says: {told}" if told else "The workflow does not say how it was made.")
        )

    @classmethod
    def execute(cls, direction, if_missing=""):
        return io.NodeOutput(load_direction(direction_file(direction)))

    @classmethod
    def fingerprint_inputs(cls, direction, if_missing=""):
        status = direction_file(direction).stat()
        return f"{status.st_mtime_ns} {status.st_size}"


NODES = [HSpaceLoadDirection]
