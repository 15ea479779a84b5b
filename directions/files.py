"""Directions as files: one safetensors each, with everything worth knowing in its metadata."""

import json
import re
import time
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from math import prod
from os import fsync
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .direction import Direction
from .untrusted import MAX_HEADER, brief, checked_source, opened, parsed, stays_inside

FORMAT, FORMAT_VERSION = "hspace-direction", "1"
HOUR = 3600.0
MAX_ELEMENTS = 1 << 29
"""2 GiB of float32: SDXL at 1024 pixels and 50 timesteps is an eighth of it."""

MAX_NAME = 240
"""Bytes of a name with its sub-folders: Windows allows 260 letters for the whole path."""

_DEVICE_NAMES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10)
}
_SLASHES = "\N{FRACTION SLASH}\N{DIVISION SLASH}\N{BIG SOLIDUS}\N{SET MINUS}\N{REVERSE SOLIDUS OPERATOR}"
"""Look like / and \\, and Windows makes some of them into those."""
_BLANKS = "\u034f\u115f\u1160\u2800\u3164\uffa0"
"""Letters and marks that show nothing."""


def save_direction(direction: Direction, path: Path, *, description: str = "", thumbnail: str = "") -> None:
    """Write `direction` to `path`, whole or not at all. `thumbnail` is a data URI for the model browser."""
    source = direction.source
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": direction.name,
        "method": direction.method,
        "unit": direction.unit,
        "recipe": direction.recipe,
        "family": source.family,
        "fingerprint": source.fingerprint,
        "branch": source.branch,
        "site": source.site,
        "image_size": json.dumps(source.image_size),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": direction.name,
        "modelspec.architecture": f"{source.family}/h-space-direction",
        "modelspec.description": description or f"{direction.method}. Strength 1 is {direction.unit}.",
    }
    if direction.author:
        metadata["modelspec.author"] = direction.author
    if thumbnail:
        metadata["modelspec.thumbnail"] = thumbnail
    write_whole({"delta": direction.delta.contiguous(), "timesteps": direction.timesteps}, path, metadata)


def load_direction(path: Path) -> Direction:
    """The direction saved at `path`, exactly as it was. `ValueError` for anything else than such a file."""
    try:
        with opened(path) as file:
            metadata = _checked_metadata(path, file.metadata() or {})
            _require_usual(path, file)
            # Copies: a tensor in a mapped file ends the process when somebody shortens that file.
            delta, timesteps = (file.get_tensor(name).clone() for name in ("delta", "timesteps"))
        source = checked_source(metadata, parsed(metadata["image_size"]))
        parsed(metadata["recipe"])
        words = {key: metadata[key] for key in ("name", "method", "unit", "recipe")}
        author = metadata.get("modelspec.author", "")
        return Direction(delta=delta, timesteps=timesteps, source=source, author=author, **words)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name} is not a whole direction file ({brief(error)}): get it again, or save it again with Save "
            "Direction."
        ) from error


def _require_usual(path: Path, file: safe_open) -> None:
    """`ValueError` unless the file holds a delta and its timesteps alone, of a size that a direction can have."""
    names = sorted(file.keys())  # type: ignore[no-untyped-call]
    if names != ["delta", "timesteps"]:
        raise ValueError(
            f"{path.name} is damaged: got tensors {brief(', '.join(names))}, wanted delta and timesteps. Get it again."
        )
    for name, rank in (("delta", 4), ("timesteps", 1)):
        tensor = file.get_slice(name)  # type: ignore[no-untyped-call]
        dtype, shape = tensor.get_dtype(), tensor.get_shape()
        if dtype != "F32" or len(shape) != rank or not 0 < prod(shape) <= MAX_ELEMENTS:
            raise ValueError(
                f"{path.name} is no direction: got {name} of {dtype} and shape {brief(shape)}, wanted F32, {rank} "
                f"sizes and 1 to {MAX_ELEMENTS} numbers. Get it again."
            )


def _checked_metadata(path: Path, metadata: Mapping[str, str]) -> Mapping[str, str]:
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path.name} is not an h-space direction: got format {brief(repr(metadata.get('format')))}, wanted "
            f"{FORMAT!r}. Choose a file made by Save Direction."
        )
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path.name} has format version {brief(metadata.get('format_version'))}, this pack reads version "
            f"{FORMAT_VERSION}: update the pack."
        )
    return metadata


def write_whole(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file under a temporary name of its own and rename it, so that no half file is ever seen."""
    content = save(tensors, metadata)  # save_file would leave a file that only its owner can read
    header = int.from_bytes(content[:8], "little")
    if header > MAX_HEADER:
        raise ValueError(
            f"Could not write {path.name}: got a recipe and a thumbnail of {header} bytes, wanted at most "
            f"{MAX_HEADER}. Nothing was changed; combine fewer directions, or find them in smaller banks."
        )
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")  # another server may be writing this file too
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        with partial.open("xb") as file:  # x does not follow a link that lies there
            file.write(content)
            file.flush()
            fsync(file.fileno())  # else a power cut may leave the new name on disk and not what is in the file
        partial.replace(path)
    except OSError as error:
        raise ValueError(
            f"Could not write {path.name}: {error}. Nothing was changed; free some disk space or check the "
            f"permissions of {path.parent}, then run again."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _sweep(folder: Path) -> None:
    """Delete what killed runs have left in `folder`: whoever still writes has done so within the hour."""
    for left in folder.glob(".*.safetensors*.partial"):
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime > HOUR:
                left.unlink()


def safe_path(root: Path, name: str, suffix: str = ".safetensors") -> Path:
    """`root/name.safetensors` for a name that a person typed; "people/smile" makes a sub-folder.

    `ValueError` for a name that would leave `root`, that some operating system can't hold or reads as another one,
    or that doesn't show all its letters.
    """
    parts = name.removesuffix(suffix).split("/")
    for part in parts:
        problem = _problem(part)
        if problem:
            raise ValueError(
                f"{brief(repr(name))} can't be a file name: got {brief(repr(part))}, which {problem}. Use letters, "
                "digits, spaces, - and _, and / for a sub-folder."
            )
    if len(name.encode()) > MAX_NAME:
        raise ValueError(
            f"{brief(repr(name))} can't be a file name: got {len(name.encode())} bytes, wanted at most {MAX_NAME}. "
            "Choose a shorter one."
        )
    path = root.joinpath(*parts[:-1], parts[-1] + suffix)
    if not stays_inside(root, path):
        raise ValueError(f"{name!r} leads out of {root.name}: choose a name inside it.")
    return path


def _problem(part: str) -> str:
    """What is wrong with a part of a name; "" if nothing is."""
    plain = unicodedata.normalize("NFKC", part)  # some systems read full-width letters as these
    if not part or re.search(r'[<>:"|?*]', part) or set(plain) & set("/\\") or set(part) & set(_SLASHES):
        return "is empty or has a character that some system keeps for itself"
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") or letter in _BLANKS for letter in part):
        return "has a letter that is not seen"
    if part != part.strip(" .") or plain != plain.strip().strip("."):
        return "begins or ends with a space or a dot"
    if part != unicodedata.normalize("NFC", part):
        return "has letters put together from parts, so that two names look the same: type it again"
    if plain.split(".")[0].strip().lower() in _DEVICE_NAMES:
        return "is a device on Windows"
    return "" if len(part.encode()) <= 100 else "is longer than 100 bytes"
