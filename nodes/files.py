"""Save a direction as a small file, and load it."""

from dataclasses import replace as with_changes
from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..directions import Direction, load_direction, safe_path, save_direction
from ..directions.untrusted import stays_inside
from .folders import DIRECTIONS
from .thumbnail import thumbnail as data_uri
from .types import CATEGORY, HSpaceDirection


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
        return io.NodeOutput(direction, ui=ui.PreviewText(f"Saved as {path.relative_to(root).as_posix()}"))


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


def direction_file(name: str) -> Path:
    """The file of this name in one of the folders. `ValueError` for a link that leads out of them."""
    path = Path(folder_paths.get_full_path_or_raise(DIRECTIONS, name))
    if not any(stays_inside(Path(root), path) for root in folder_paths.get_folder_paths(DIRECTIONS)):
        raise ValueError(f'"{name}" leads out of models/{DIRECTIONS}: got a link, wanted a file. Copy the file there.')
    return path


def free_path(path: Path, direction: Direction) -> Path:
    """`path`, or the first of "name 2", "name 3"... that is free or already holds this very direction."""
    candidate, number = path, 1
    while candidate.exists() and not _holds(candidate, direction):
        number += 1
        candidate = path.with_name(f"{path.stem} {number}{path.suffix}")
    return candidate


def _holds(path: Path, direction: Direction) -> bool:
    try:
        return load_direction(path) == direction
    except ValueError:
        return False


NODES = [HSpaceSaveDirection, HSpaceLoadDirection]
