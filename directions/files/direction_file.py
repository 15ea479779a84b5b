"""Directions as files: one safetensors each, with everything worth knowing in its metadata."""

import json
import re
from collections.abc import Mapping
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..direction import MIDDLE, Direction
from .untrusted import MAX_ELEMENTS, brief, checked_source, opened, parsed
from .writing import write_whole

FORMAT, FORMAT_VERSION = "hspace-direction", "2"
BOTTLENECK_ONLY, _ITS_SITE = "1", "middle_block_after"
"""The version before, and what it called the bottleneck, the one site it knew."""

_DELTA, _SPREAD = "delta.", "spread."
"""Before the name of a site."""
_OF_A_SITE = re.compile(r"(delta|spread)\.[a-z0-9_.]{1,64}")

MOST_USABLE = 1e6
"""The farthest end of a usable range that is read."""

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
        "image_size": json.dumps(source.image_size),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": direction.name,
        "modelspec.architecture": f"{source.family}/h-space-direction",
        "modelspec.description": description or f"{direction.method}. Strength 1 is {direction.unit}.",
    }
    if direction.author:
        metadata["modelspec.author"] = direction.author
    if direction.usable:
        metadata["usable"] = json.dumps(direction.usable)
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

    tensors = {f"{_DELTA}{site}": delta.contiguous() for site, delta in direction.deltas.items()}
    tensors |= {f"{_SPREAD}{site}": spread.contiguous() for site, spread in direction.spreads.items()}
    write_whole(tensors | {"timesteps": direction.timesteps}, path, metadata, require_same)


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
        names = _checked_names(path, file, metadata)
        # Copies: a tensor in a mapped file ends the process when somebody shortens that file.
        tensors = {name: file.get_tensor(name).clone() for name in names}
    source = checked_source(metadata, parsed(metadata["image_size"]))
    parsed(metadata["recipe"])
    words = {key: metadata[key] for key in ("name", "method", "unit", "recipe")}
    author = metadata.get("modelspec.author", "")
    deltas, spreads = (_by_site(tensors, kind) for kind in (_DELTA, _SPREAD))
    if "delta" in tensors:
        deltas = {MIDDLE: tensors["delta"]}
    usable = _checked_usable(path, parsed(metadata["usable"])) if "usable" in metadata else None
    return Direction(
        deltas=deltas,
        timesteps=tensors["timesteps"],
        source=source,
        author=author,
        spreads=spreads,
        usable=usable,
        **words,
    )


def _checked_usable(path: Path, ends: object) -> tuple[float, float]:
    if not (
        isinstance(ends, list)
        and len(ends) == 2
        and all(type(end) in (int, float) and abs(end) <= MOST_USABLE for end in ends)
    ):
        raise ValueError(f"{path.name} is damaged: got usable {brief(repr(ends))}, wanted two numbers. Get it again.")
    return float(ends[0]), float(ends[1])


def _by_site(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}


def _checked_names(path: Path, file: safe_open, metadata: Mapping[str, str]) -> list[str]:
    """The tensors of the file. `ValueError` unless they are a direction's alone, of sizes that one can have."""
    names = sorted(file.keys())  # type: ignore[no-untyped-call]
    if metadata["format_version"] == BOTTLENECK_ONLY:
        usual = names == ["delta", "timesteps"] and metadata["site"] == _ITS_SITE
    else:
        usual = all(name == "timesteps" or _OF_A_SITE.fullmatch(name) for name in names) and "timesteps" in names
    if not usual:
        raise ValueError(
            f"{path.name} is damaged: got tensors {brief(', '.join(names))}, wanted deltas of sites and their "
            "timesteps. Get it again."
        )
    for name in names:
        rank = 4 if name.startswith("delta") else 1
        tensor = file.get_slice(name)  # type: ignore[no-untyped-call]
        dtype, shape = tensor.get_dtype(), tensor.get_shape()
        if dtype != "F32" or len(shape) != rank or not 0 < prod(shape) <= MAX_ELEMENTS:
            raise ValueError(
                f"{path.name} is no direction: got {name} of {dtype} and shape {brief(shape)}, wanted F32, {rank} "
                f"sizes and 1 to {MAX_ELEMENTS} numbers. Get it again."
            )
    return names


def _checked_metadata(path: Path, metadata: Mapping[str, str]) -> Mapping[str, str]:
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path.name} is not an h-space direction: got format {brief(repr(metadata.get('format')))}, wanted "
            f"{FORMAT!r}. Choose a file made by Save Direction."
        )
    if metadata.get("format_version") not in (BOTTLENECK_ONLY, FORMAT_VERSION):
        raise ValueError(
            f"{path.name} has format version {brief(metadata.get('format_version'))}, this pack reads versions "
            f"{BOTTLENECK_ONLY} and {FORMAT_VERSION}: update the pack."
        )
    return metadata
