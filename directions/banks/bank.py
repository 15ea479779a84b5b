"""A bank: h along many sampled trajectories, on disk, however many there are.

A bank is a folder of shards. Each shard is one immutable safetensors file that holds some seeds whole and says how
they were made, so shards recorded elsewhere join a bank by being copied into its folder.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..direction import Source
from ..files import brief, opened, stays_inside, write_whole
from .shard import FORMAT, FORMAT_VERSION, Shard, h_tensor, open_shard

SLICE_ELEMENTS = 1 << 24
"""Numbers of h read at a time: 64 MiB of float32."""


@dataclass(frozen=True)
class Bank:
    """n trajectories in the order of their seeds. Nothing is read until it is asked for."""

    shards: tuple[Shard, ...]
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def source(self) -> Source:
        return self.shards[0].source

    @property
    def recipe(self) -> str:
        """JSON: model, conditioning, sampler and sigmas that made it."""
        return self.shards[0].recipe

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """Channels, height and width of h, by site."""
        return dict(self.shards[0].shapes)

    @cached_property
    def timesteps(self) -> Tensor:
        """`(t,)` float32, model time, descending."""
        return torch.tensor(self.shards[0].timesteps)

    def select(self, seeds: Sequence[int]) -> "Bank":
        """The bank of these seeds, in this order."""
        missing = sorted(set(seeds) - set(self.seeds))
        if missing:
            raise ValueError(f"The bank has no seeds {missing[:5]}: it holds {len(self)} others. Sample them first.")
        return replace(self, seeds=tuple(seeds))

    def h(self, site: str, step: int, channels: slice = slice(None)) -> Tensor:
        """h of `site` at the `step`-th timestep, `(n, c, h, w)` float32, reading only those channels of it."""
        pick = lambda rows: rows[:, step : step + 1, channels].squeeze(1)  # noqa: E731
        return self._read(pick, lambda shard: shard.h_tensor(site)).float()

    def slices(self, site: str) -> Iterator[slice]:
        """Slices of channels, so that `h` of all trajectories at one step is read in pieces of bounded size."""
        channels, height, width = self.shapes[site]
        at_once = max(1, SLICE_ELEMENTS // (len(self) * height * width))
        return (slice(first, first + at_once) for first in range(0, channels, at_once))

    def latents(self, first: int = 0, last: int | None = None) -> Tensor:
        """The finished latents of the trajectories `first` to `last`, `(n, ...)` float32."""
        part = replace(self, seeds=self.seeds[first:last])
        return part._read(lambda rows: rows[:], lambda shard: "latents")

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of one trajectory's latent."""
        return self.shards[0].latent_shape

    @property
    def extras(self) -> dict[str, tuple[int, ...]]:
        """What else is kept of each trajectory: sizes by name."""
        return dict(self.shards[0].extras)

    def kept(self, name: str, step: int | None = None) -> Tensor:
        """What is kept under `name`, `(n, ...)` float32; of what is kept for each timestep only the `step`-th."""
        pick = lambda rows: rows[:] if step is None else rows[:, step : step + 1].squeeze(1)  # noqa: E731
        return self._read(pick, lambda shard: name)

    def _read(self, pick, name_in) -> Tensor:  # type: ignore[no-untyped-def]
        wanted = {seed: row for row, seed in enumerate(self.seeds)}
        pieces: list[Tensor] = []
        order: list[int] = []
        for shard in self.shards:
            rows = [i for i, seed in enumerate(shard.seeds) if seed in wanted]
            if rows:
                try:
                    with opened(shard.path) as file:
                        pieces.append(pick(file.get_slice(name_in(shard)))[rows])
                except (OSError, SafetensorError) as error:
                    raise ValueError(
                        f"A part of the bank is gone or damaged ({brief(error)}): restart ComfyUI and run again, and "
                        "its seeds are sampled again."
                    ) from error
                if not torch.isfinite(pieces[-1]).all():
                    raise ValueError(
                        f"{shard.path.name} holds NaN or infinity in {name_in(shard)}, wanted finite numbers: delete "
                        "it, and its seeds are sampled again."
                    )
                order += [wanted[shard.seeds[i]] for i in rows]
        return torch.cat(pieces)[torch.tensor(order).argsort()]


def open_bank(folder: Path) -> Bank:
    """All trajectories in `folder`, by ascending seed. `ValueError` if there are none or they don't belong together."""
    paths = sorted(folder.glob("*.safetensors"))
    for path in paths:
        if not stays_inside(folder, path):
            raise ValueError(f"{path.name} is a link out of the bank {folder.name}: copy the file itself there.")
    shards = tuple(open_shard(path) for path in paths)
    if not shards:
        raise ValueError(f"The bank {folder.name} is empty: got no trajectories, wanted some. Sample it first.")
    first = shards[0]
    for shard in shards[1:]:
        for what in ("recipe", "source", "timesteps", "shapes", "latent_shape", "extras"):
            if getattr(shard, what) != getattr(first, what):
                raise ValueError(
                    f"{shard.path.name} does not belong into the bank {folder.name}: its {what} differs from "
                    f"{first.path.name}'s. Move it out of the folder."
                )
    seeds = [seed for shard in shards for seed in shard.seeds]
    if len(set(seeds)) < len(seeds):
        twice = sorted(seed for seed, times in Counter(seeds).items() if times > 1)
        raise ValueError(f"The bank {folder.name} holds seeds {twice[:5]} twice: remove one of the shards with them.")
    return Bank(shards, tuple(sorted(seeds)))


def seeds_in(paths: Iterable[Path]) -> set[int]:
    """All seeds of these shards."""
    return {seed for path in paths for seed in open_shard(path).seeds}


def write_shard(
    folder: Path,
    seeds: Sequence[int],
    *,
    timesteps: Tensor,
    h: Mapping[str, Tensor],
    latents: Tensor,
    source: Source,
    recipe: str,
    extras: Mapping[str, Tensor] = MappingProxyType({}),
) -> None:
    """Add trajectories to the bank in `folder`, whole or not at all.

    h is `(n, t, c, h, w)` by site, latents and whatever else is to be kept of each trajectory `(n, ...)`.
    """
    kept = {"latents": latents, **extras}
    trajectories = {h_tensor(site): each.half().contiguous() for site, each in h.items()}
    everything = trajectories | kept
    steps = {each.shape[1:2] for each in trajectories.values()}
    if {*map(len, everything.values())} != {len(seeds)} or steps != {timesteps.shape}:
        raise ValueError(
            f"A shard needs a trajectory for each seed: got {len(seeds)} seeds, "
            f"{', '.join(f'{name} {tuple(tensor.shape)}' for name, tensor in everything.items())} and {len(timesteps)} "
            "timesteps."
        )
    for site, each in trajectories.items():
        if not torch.isfinite(each).all():
            raise ValueError(f"{site} of seeds {list(seeds)} is not finite in float16: the model has overflowed.")
    for name, tensor in kept.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"The {name} of seeds {list(seeds)} are not finite: the model has overflowed.")
    tensors = {
        **trajectories,
        **{name: tensor.float().contiguous() for name, tensor in kept.items()},
        "timesteps": timesteps.float(),
        "seeds": torch.tensor([seed - (1 << 63) for seed in seeds]),  # ComfyUI's seeds are unsigned 64 bit
    }
    about = {"format_version": FORMAT_VERSION, "source": asdict(source), "recipe": recipe}
    metadata = {FORMAT: json.dumps(about)}  # one entry: safetensors writes several in random order
    write_whole(tensors, folder / f"seed-{seeds[0]:020d}-{len(seeds)}.safetensors", metadata)
