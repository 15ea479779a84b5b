"""Where the pack keeps its files: folders in ComfyUI's models folder."""

from contextlib import suppress
from pathlib import Path

import folder_paths

DIRECTIONS, BANKS, CLASSIFIERS = "hspace_directions", "hspace_banks", "hspace_classifiers"
PACK = Path(__file__).parents[2]
STARTER_DIRECTIONS = PACK / "demo" / "directions"
"""Directions of the demo model that come with the pack, found beside the user's own."""


def register_folders() -> None:
    """Make the folders known to ComfyUI, after those that extra_model_paths.yaml already names."""
    for key, extra, listed in (
        (DIRECTIONS, [str(STARTER_DIRECTIONS)], {".safetensors"}),
        (BANKS, [], {"folder"}),
        (CLASSIFIERS, [], {"folder"}),
    ):
        configured, _ = folder_paths.folder_names_and_paths.get(key, ([], set()))
        own = str(Path(folder_paths.models_dir) / key)
        paths = list(dict.fromkeys([*configured, own, *extra]))
        folder_paths.folder_names_and_paths[key] = (paths, listed)
    with suppress(OSError):  # where nothing can be written: loading works, and saving says why it does not
        Path(folder_paths.models_dir, DIRECTIONS).mkdir(parents=True, exist_ok=True)
