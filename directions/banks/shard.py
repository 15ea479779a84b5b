"""One file of a bank, as it says it is: read with as little trust as any file that somebody may have passed on."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError

from ..direction import Source
from ..files import MAX_ELEMENTS, brief, checked_source, opened, parsed

FORMAT, FORMAT_VERSION = "hspace-bank", "1"
MAX_SEEDS = 1 << 20
"""In one shard; ten times what a bank can be sampled with."""

_DTYPES = {"h": "F16", "latents": "F32", "timesteps": "F32", "seeds": "I64"}


@dataclass(frozen=True)
class Shard:
    """One file: h `(n, t, c, h, w)` float16, latents `(n, ...)` float32, timesteps `(t,)`, seeds `(n,)`."""

    path: Path
    seeds: tuple[int, ...]
    timesteps: tuple[float, ...]
    shape: tuple[int, int, int]
    """Channels, height and width of h."""
    latent_shape: tuple[int, ...]
    """Of one picture's latent."""
    source: Source
    recipe: str
    extras: tuple[tuple[str, tuple[int, ...]], ...]
    """Name and size of what else is kept of each trajectory, `(n, *size)` float32."""


def open_shard(path: Path) -> Shard:
    """What the shard says of itself, checked; h and latents are not read. `ValueError` for any other file."""
    try:
        with opened(path) as file:
            about = parsed((file.metadata() or {}).get(FORMAT, "{}"))
            if not isinstance(about, dict):
                raise TypeError(f"its metadata is a {type(about).__name__}")
            if about.get("format_version") != FORMAT_VERSION:
                raise ValueError(
                    f"{path.name} is not a shard of a bank: got {FORMAT} version {brief(about.get('format_version'))}, "
                    f"wanted version {FORMAT_VERSION}. Move it out of the folder."
                )
            more = sorted(set(file.keys()) - _DTYPES.keys())
            wanted = _DTYPES | dict.fromkeys(more, "F32")
            tensors = {name: file.get_slice(name) for name in wanted}
            dtypes = {name: tensor.get_dtype() for name, tensor in tensors.items()}
            sizes = {name: tensor.get_shape() for name, tensor in tensors.items()}
            extras = [sizes.pop(name) for name in more]
            if dtypes != wanted or not _fit_together(**sizes, extras=extras):
                raise ValueError(
                    f"{path.name} contradicts itself: got {brief(dtypes)} of shapes {brief((sizes, extras))}, wanted "
                    f"{brief(wanted)}, a trajectory and a latent for each seed and a timestep for each step. Delete "
                    "it, and its seeds are sampled again."
                )
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
    _, _, *shape = sizes["h"]
    channels, height, width = shape
    return Shard(
        path, seeds, tuple(timesteps.tolist()), (channels, height, width), tuple(sizes["latents"][1:]), source, recipe,
        tuple((name, tuple(shape[1:])) for name, shape in zip(more, extras, strict=True)),
    )  # fmt: skip


def _fit_together(
    h: list[int], latents: list[int], timesteps: list[int], seeds: list[int], extras: list[list[int]]
) -> bool:
    """Whether these are the shapes of a shard. One trajectory is no larger than a direction may be."""
    match h, timesteps, seeds:
        case [n, t, _, _, _], [steps], [count] if n == count and t == steps and 0 < n <= MAX_SEEDS:
            each = [h, latents, *extras]
            return all(shape[:1] == [n] and len(shape) < 9 and 0 < prod(shape[1:]) <= MAX_ELEMENTS for shape in each)
    return False
