"""Directions as files: one safetensors each, with everything worth knowing in its metadata."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .direction import Direction, Source

FORMAT, FORMAT_VERSION = "hspace-direction", "1"
MAX_ELEMENTS = 1 << 29
"""2 GiB of float32: SDXL at 1024 pixels and 50 timesteps is an eighth of it."""

_DEVICE_NAMES = {"con", "prn", "aux", "nul"} | {f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10)}


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
        with safe_open(path, "pt") as file:
            metadata = _checked_metadata(path, file.metadata() or {})
            names = set(file.keys())
            if names != {"delta", "timesteps"}:
                raise ValueError(f"{path.name} is damaged: got tensors {sorted(names)}, wanted delta and timesteps.")
            shape = file.get_slice("delta").get_shape()
            if torch.Size(shape).numel() > MAX_ELEMENTS:
                raise ValueError(f"{path.name} is too large for a direction: got shape {tuple(shape)}.")
            delta, timesteps = file.get_tensor("delta"), file.get_tensor("timesteps")
        width, height = _image_size(metadata["image_size"])
        source = Source(
            family=metadata["family"],
            fingerprint=metadata["fingerprint"],
            branch=metadata["branch"],
            image_size=(width, height),
            site=metadata["site"],
        )
        json.loads(metadata["recipe"])
        words = {key: metadata[key] for key in ("name", "method", "unit", "recipe")}
        author = metadata.get("modelspec.author", "")
        return Direction(delta=delta, timesteps=timesteps, source=source, author=author, **words)
    except (SafetensorError, KeyError, TypeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path.name} is not a whole direction file ({error}): get it again, or save it again with Save Direction."
        ) from error


def _image_size(text: str) -> tuple[int, int]:
    match json.loads(text):
        case [int(width), int(height)]:
            return width, height
    raise TypeError(f"image_size is {text}")


def _checked_metadata(path: Path, metadata: Mapping[str, str]) -> Mapping[str, str]:
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path.name} is not an h-space direction: got format {metadata.get('format')!r}, wanted {FORMAT!r}. "
            "Choose a file made by Save Direction."
        )
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path.name} has format version {metadata.get('format_version')}, this pack reads version "
            f"{FORMAT_VERSION}: update the pack."
        )
    return metadata


def write_whole(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file under a temporary name and rename it, so that no half file is ever seen."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(save(tensors, metadata))  # save_file would leave a file that only its owner can read
        partial.replace(path)
    except OSError as error:
        raise ValueError(
            f"Could not write {path.name}: {error}. Nothing was changed; free some disk space or check the "
            f"permissions of {path.parent}, then run again."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def safe_path(root: Path, name: str, suffix: str = ".safetensors") -> Path:
    """`root/name.safetensors` for a name that a person typed; "people/smile" makes a sub-folder.

    `ValueError` for a name that would leave `root` or that some operating system can't hold.
    """
    parts = name.removesuffix(suffix).split("/")
    for part in parts:
        if (
            not re.fullmatch(r"[^\x00-\x1f\x7f<>:\"|?*\\]+", part)
            or part != part.strip(" .")
            or len(part.encode()) > 100
        ):
            raise ValueError(
                f"{name!r} can't be a file name: got {part!r}. Use letters, digits, spaces, - and _, and / for a "
                "sub-folder."
            )
        if part.split(".")[0].lower() in _DEVICE_NAMES:
            raise ValueError(f"{name!r} can't be a file name: {part!r} is a device on Windows. Choose another name.")
    path = root.joinpath(*parts[:-1], parts[-1] + suffix)
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{name!r} leads out of {root.name}: choose a name inside it.")
    return path
