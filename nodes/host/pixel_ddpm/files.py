"""The files of a pixel DDPM in diffusers format: where they are, and what is in them. No pickle, no network."""

import json
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from ....directions import brief, opened
from ..unchanged import kept_while_unchanged

MAX_SETTINGS = 4 << 20
"""Bytes; settings of a model are a few thousand."""

_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
_SCHEDULERS = ("scheduler_config.json", "scheduler/scheduler_config.json")


@dataclass(frozen=True)
class DDPMFiles:
    """A model's three files. Google's lie side by side; a saved `DDPMPipeline` has unet/ and scheduler/."""

    config: Path
    weights: Path
    scheduler: Path

    def fingerprint(self) -> str:
        """Changes when any of the files is exchanged."""
        stats = [(path, path.stat()) for path in astuple(self)]
        return "|".join(f"{path}:{stat.st_mtime_ns}:{stat.st_size}" for path, stat in stats)


def is_ddpm(folder: Path) -> bool:
    """Whether the folder holds a `UNet2DModel`, perhaps one that loading refuses with a reason."""
    return _unet_folder(folder) is not None


def find_files(folder: Path) -> DDPMFiles:
    """The files in `folder`; `ValueError` naming the one that is missing."""
    unet = _unet_folder(folder)
    if unet is None:
        raise ValueError(
            f"{folder.name} is no pixel DDPM: got no config.json of a UNet2DModel, wanted one in it or in unet/. Copy "
            "the whole diffusers folder there."
        )
    weights = next((unet / name for name in _WEIGHTS if (unet / name).is_file()), None)
    if weights is None:
        got = ", ".join(sorted(path.name for path in unet.glob("diffusion_pytorch_model*"))) or "no weights"
        raise ValueError(
            f"{folder.name}: got {got}, wanted {_WEIGHTS[0]}. A .bin is a pickle, which can run any code, so it isn't "
            "loaded: download the safetensors file, or save the model again with diffusers."
        )
    scheduler = next((folder / name for name in _SCHEDULERS if (folder / name).is_file()), None)
    if scheduler is None:
        raise ValueError(
            f"{folder.name}: got no scheduler_config.json, wanted it beside the model or in scheduler/: it holds the "
            "noise schedule. Copy the whole diffusers folder."
        )
    return DDPMFiles(unet / "config.json", weights, scheduler)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; `ValueError` if it holds anything else."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_SETTINGS:
            raise ValueError(f"it is no file, or one of more than {MAX_SETTINGS} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): got no JSON, wanted diffusers' settings. Copy it again."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: got a {type(content).__name__}, wanted diffusers' settings. Copy it again.")
    return content


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file; `ValueError` if it is truncated or something else."""
    try:
        with opened(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it has no other
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is damaged: got {path.stat().st_size} bytes ({brief(error)}), wanted a complete safetensors file. "
            "Download it again."
        ) from error


def _unet_folder(folder: Path) -> Path | None:
    for candidate in (folder, folder / "unet"):
        with suppress(OSError):
            if _describes_unet(candidate / "config.json"):
                return candidate
    return None


@kept_while_unchanged
def _describes_unet(config: Path) -> bool:
    try:
        return read_json(config).get("_class_name") == "UNet2DModel"
    except ValueError:
        return False
