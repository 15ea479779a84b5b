"""Directions as files: one safetensors each, with everything worth knowing in its metadata."""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..direction import Direction
from .untrusted import MAX_ELEMENTS, brief, checked_source, opened, parsed
from .writing import write_whole

FORMAT, FORMAT_VERSION = "hspace-direction", "1"

_UNREADABLE = (SafetensorError, OSError, KeyError, TypeError)


def save_direction(direction: Direction, path: Path, *, description: str = "", thumbnail: str = "") -> None:
    """Write `direction` to `path`, whole or not at all. `thumbnail` is a data URI for the model browser.

    `ValueError`, and nothing changed, where it could not be written or `load_direction` would not give it back.
    """
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

    def require_same(written: Path) -> None:
        try:
            problem = "" if _read(written) == direction else "what was written is another one"
        except (*_UNREADABLE, ValueError) as error:
            problem = brief(error)
        if problem:
            raise ValueError(
                f"Could not write {path.name}: got a direction that can't be loaded again ({problem}). Nothing was "
                "changed; make it in fewer steps, such as one Orthogonalise for all that it is protected from."
            )

    write_whole({"delta": direction.delta.contiguous(), "timesteps": direction.timesteps}, path, metadata, require_same)


def load_direction(path: Path) -> Direction:
    """The direction saved at `path`, exactly as it was. `ValueError` for anything else than such a file."""
    try:
        return _read(path)
    except _UNREADABLE as error:
        raise ValueError(
            f"{path.name} is not a whole direction file ({brief(error)}): get it again, or save it again with Save "
            "Direction."
        ) from error


def _read(path: Path) -> Direction:
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
