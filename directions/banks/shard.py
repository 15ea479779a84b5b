"""One file of a bank, as it says it is: read with as little trust as any file that somebody may have passed on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..direction import MIDDLE, Source
from ..files import MAX_ELEMENTS, brief, checked_source, opened, parsed

FORMAT, FORMAT_VERSION = "hspace-bank", "2"
BOTTLENECK_ONLY = "1"
"""The version before: h is the bottleneck's, and its tensor is called so."""
MAX_SEEDS = 1 << 20
"""In one shard; ten times what a bank can be sampled with."""

_DTYPES = {"latents": "F32", "timesteps": "F32", "seeds": "I64"}
_H = "h."
"""Before the name of a site: the tensor of its h."""


@dataclass(frozen=True)
class Shard:
    """One file: h `(n, t, c, h, w)` float16 of each site, latents `(n, ...)` float32, timesteps `(t,)`, seeds."""

    path: Path
    seeds: tuple[int, ...]
    timesteps: tuple[float, ...]
    shapes: tuple[tuple[str, tuple[int, int, int]], ...]
    """Sites, and channels, height and width of h there."""
    latent_shape: tuple[int, ...]
    """Of one picture's latent."""
    source: Source
    recipe: str
    extras: tuple[tuple[str, tuple[int, ...]], ...]
    """Name and size of what else is kept of each trajectory, `(n, *size)` float32."""
    version: str = FORMAT_VERSION

    def h_tensor(self, site: str) -> str:
        """Name of the tensor in the file."""
        return "h" if self.version == BOTTLENECK_ONLY else h_tensor(site)


def h_tensor(site: str) -> str:
    return f"{_H}{site}"


def open_shard(path: Path) -> Shard:
    """What the shard says of itself, checked; h and latents are not read. `ValueError` for any other file."""
    try:
        with opened(path) as file:
            about = _checked_about(path, file.metadata() or {})
            sites = _sites(file.keys(), about["format_version"])
            sizes, more = _checked_sizes(path, file, sites)
            seeds = tuple(seed + (1 << 63) for seed in file.get_tensor("seeds").tolist())
            timesteps = file.get_tensor("timesteps").clone()
        source = checked_source(about["source"], about["source"]["image_size"])
        recipe = about["recipe"]
        parsed(recipe)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name} is not a whole shard of a bank ({brief(error)}): delete it, and its seeds are sampled again."
        ) from error
    if not (torch.isfinite(timesteps).all() and (timesteps.diff() < 0).all()):
        raise ValueError(
            f"{path.name} contradicts itself: got timesteps {brief(timesteps.tolist())}, wanted finite ones that "
            "descend. Delete it, and its seeds are sampled again."
        )
    return Shard(
        path,
        seeds,
        tuple(timesteps.tolist()),
        tuple((site, tuple(sizes[name][2:])) for site, name in sites.items()),  # type: ignore[misc]  # there are three
        tuple(sizes["latents"][1:]),
        source,
        recipe,
        tuple((name, tuple(sizes[name][1:])) for name in more),
        about["format_version"],
    )


def _checked_about(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    about = parsed(metadata.get(FORMAT, "{}"))
    if not isinstance(about, dict):
        raise TypeError(f"its metadata is a {type(about).__name__}")
    if about.get("format_version") not in (BOTTLENECK_ONLY, FORMAT_VERSION):
        raise ValueError(
            f"{path.name} is not a shard of a bank: got {FORMAT} version {brief(about.get('format_version'))}, "
            f"wanted version {BOTTLENECK_ONLY} or {FORMAT_VERSION}. Move it out of the folder."
        )
    return about


def _sites(names: Iterable[str], version: str) -> dict[str, str]:
    """Sites, and the name of each one's tensor."""
    if version == BOTTLENECK_ONLY:
        return {MIDDLE: "h"}
    return {name.removeprefix(_H): name for name in sorted(names) if name.startswith(_H)}


def _checked_sizes(path: Path, file: safe_open, sites: Mapping[str, str]) -> tuple[dict[str, list[int]], list[str]]:
    """The size of each tensor, and which of them are kept besides."""
    more = sorted(set(file.keys()) - _DTYPES.keys() - set(sites.values()))  # type: ignore[no-untyped-call]
    wanted = dict.fromkeys(sites.values(), "F16") | _DTYPES | dict.fromkeys(more, "F32")
    tensors = {name: file.get_slice(name) for name in wanted}  # type: ignore[no-untyped-call]
    dtypes = {name: tensor.get_dtype() for name, tensor in tensors.items()}
    sizes = {name: list(tensor.get_shape()) for name, tensor in tensors.items()}
    h = [sizes[name] for name in sites.values()]
    if dtypes != wanted or not _fit_together(h, sizes, more):
        raise ValueError(
            f"{path.name} contradicts itself: got {brief(dtypes)} of shapes {brief(sizes)}, wanted {brief(wanted)}, h "
            "of a site at least, a trajectory and a latent for each seed and a timestep for each step. Delete it, and "
            "its seeds are sampled again."
        )
    return sizes, more


def _fit_together(h: list[list[int]], sizes: Mapping[str, list[int]], more: list[str]) -> bool:
    """Whether these are the shapes of a shard. One trajectory is no larger than a direction may be."""
    match sizes["timesteps"], sizes["seeds"]:
        case [steps], [n] if 0 < n <= MAX_SEEDS and h and all(len(each) == 5 and each[1] == steps for each in h):
            kept = [*h, sizes["latents"], *(sizes[name] for name in more)]
            return all(shape[:1] == [n] and len(shape) < 9 and 0 < prod(shape[1:]) <= MAX_ELEMENTS for shape in kept)
    return False
