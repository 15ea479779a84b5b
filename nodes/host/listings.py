"""What the nodes' lists offer: files and folders by the names they are chosen by. A name is never made into a path.

Every schema asks for them, so folders are read again only when they have changed, as `folder_paths` does.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import folder_paths

from ...directions import Direction, load_direction, stays_inside
from .paths import BANKS, CLASSIFIERS, DIRECTIONS, PACK
from .pixel_ddpm import is_ddpm
from .unchanged import kept_while_unchanged

DEMO_MODEL, DEMO_CLASSIFIER = "demo faces (built in)", "demo attributes (built in)"
DEMO_CHECKPOINTS = {
    "faces with words (Stable Diffusion 1.x)": PACK / "demo" / "prompted" / "faces.safetensors",
    "faces with words (Flux 1)": PACK / "demo" / "transformer" / "faces.safetensors",
}
"""Embedded checkpoints by the name in the list."""
DEMO_MODEL_FOLDER, DEMO_CLASSIFIER_FOLDER = PACK / "demo" / "ddpm", PACK / "demo" / "classifier"


def model_folders() -> dict[str, Path]:
    """Folder of each model by the name in the list; of two with the same name the first search path's counts."""
    found = {DEMO_MODEL: DEMO_MODEL_FOLDER}
    for root in map(Path, folder_paths.get_folder_paths("diffusers")):
        for folder in filter(is_ddpm, _inside(root)):
            found.setdefault(folder.name, folder)
    return found


def model_folder(name: str) -> Path:
    """Folder of a model in the list. A name is never made into a path, so "../x" is merely unknown: `ValueError`."""
    return _chosen(name, model_folders(), "Put the diffusers folder into models/diffusers")


def classifier_folders() -> dict[str, Path]:
    """Folder of each classifier by the name in the list."""
    found = {DEMO_CLASSIFIER: DEMO_CLASSIFIER_FOLDER}
    for root in map(Path, folder_paths.get_folder_paths(CLASSIFIERS)):
        for folder in _inside(root):
            if (folder / "config.json").is_file():
                found.setdefault(folder.name, folder)
    return found


def classifier_folder(name: str) -> Path:
    """Folder of a classifier in the list. `ValueError` for a name that is not in it."""
    return _chosen(name, classifier_folders(), "Put its folder into models/hspace_classifiers")


def score_files() -> dict[str, Path]:
    """Path of each score file by its name in the list. Links out of the folder, folders and pipes are left out."""
    found: dict[str, Path] = {}
    for root in map(Path, folder_paths.get_folder_paths(BANKS)):
        for path in _tables(root):
            if path.is_file() and stays_inside(root, path):
                found.setdefault(path.relative_to(root).as_posix(), path)
    return found


def score_file(name: str) -> Path:
    """The file of this name in the list. A name is never made into a path: `ValueError` for any other."""
    return _chosen(name, score_files(), "Put a .csv or .json file into models/hspace_banks, press R")


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


def _chosen(name: str, listed: Mapping[str, Path], remedy: str) -> Path:
    if name not in listed:
        wanted = ", ".join(listed) or "none is there"
        raise ValueError(f'got "{name}", wanted one of: {wanted}. {remedy} and choose it from the list.')
    return listed[name]


def _tables(folder: Path) -> Iterator[Path]:
    """All that is called .csv or .json in `folder` and the folders in it; links to folders are not followed."""
    for path in _inside(folder):
        if path.is_dir() and not path.is_symlink():
            yield from _tables(path)
        elif path.suffix in (".csv", ".json"):
            yield path


def _inside(folder: Path) -> tuple[Path, ...]:
    """What lies in `folder`, by name, but for shards, which may be thousands; nothing where it can't be read."""
    try:
        return _listed(folder)
    except OSError:
        return ()


@kept_while_unchanged
def _listed(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.iterdir() if not path.match("seed-*.safetensors")))


def _holds(path: Path, direction: Direction) -> bool:
    try:
        return load_direction(path) == direction
    except ValueError:
        return False
