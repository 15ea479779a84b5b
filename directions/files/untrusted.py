"""What all readers of files that a stranger may have made have in common."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..direction import Source

MAX_HEADER = 16 << 20
"""Bytes. JSON takes up to 25 times its size in memory; a recipe with a hundred thousand seeds is a tenth of this."""
MAX_NESTING = 400
"""Levels of JSON: deeper ones can be read, but Python can't write or show them from inside a running graph."""
MAX_ELEMENTS = 1 << 29
"""Of one tensor, 2 GiB of float32: SDXL at 1024 pixels and 50 timesteps is an eighth of it."""
MAX_SIDE = 1 << 20
"""Pixels."""


def opened(path: Path) -> safe_open:
    """The safetensors file `path`, open. `SafetensorError` or `OSError` if it isn't one, as a folder or a pipe."""
    if not path.is_file():  # opening a pipe would wait for ever
        raise SafetensorError("there is no such file")
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > MAX_HEADER:
        raise SafetensorError(f"its header claims {header} bytes, at most {MAX_HEADER} are read")
    try:
        return safe_open(path, "pt")
    except RuntimeError as error:  # it is larger than what can be mapped
        raise SafetensorError(str(error)) from error


def parsed(text: str) -> object:
    """What JSON in a file says. `SafetensorError` if it is none, or nests too deep."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError alone: a number of thousands of digits
        raise SafetensorError(f"got no JSON in it: {error}") from error
    depth, level = 0, [value]
    while level:
        level = [entry for outer in level for entry in _entries(outer)]
        depth += 1
    if depth > MAX_NESTING:
        raise SafetensorError(f"its JSON nests {depth} levels deep, at most {MAX_NESTING} are read")
    return value


def _entries(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def checked_source(about: Mapping[str, object], image_size: object) -> Source:
    """The source that a file names. `TypeError` unless it is made of words and of a size in pixels."""
    words = {key: about[key] for key in ("family", "fingerprint", "branch")}
    wrong = [key for key, word in words.items() if not isinstance(word, str)]
    match image_size:
        case [int(width), int(height)] if not wrong and all(
            type(side) is int and 0 < side <= MAX_SIDE for side in (width, height)
        ):
            return Source(image_size=(width, height), **words)  # type: ignore[arg-type]  # they are strings
    raise TypeError(f"got {wrong[0]} {words[wrong[0]]!r}" if wrong else f"got image_size {image_size!r}")


def stays_inside(root: Path, path: Path) -> bool:
    """Whether `path`, with all links followed, is in `root`."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a link to itself
        return False


def brief(value: object) -> str:
    """`str(value)`, cut where a stranger's file would make a message of megabytes."""
    text = str(value)
    return text if len(text) <= 500 else f"{text[:500]}..."
