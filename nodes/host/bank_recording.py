"""Banks recorded batch by batch: each is on disk before the next begins, and what is there is not sampled again."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import folder_paths
import torch
from filelock import FileLock
from torch import Tensor

from ...directions import MIDDLE, Bank, Source, open_bank, safe_path, seeds_in, write_shard
from .fingerprint import digest, model_digest, weights_fingerprint
from .paths import BANKS
from .progress import Progress
from .recorder import GRID, maps, pooled_to, record
from .sampling import sample, single_latent
from .sites import model_family, require_sites


def record_banks(
    model,
    settings: Mapping[str, dict],
    *,
    latent: dict,
    seeds: Sequence[int],
    batch_size: int,
    branch: str,
    sites: Sequence[str] = (MIDDLE,),
    grid: int | None = GRID,
) -> list[Bank]:
    """A bank of `seeds` for each name and what is sampled under it; seeds that are on disk are not sampled again.

    Maps of the decoder are pooled to `grid`; None keeps them whole.
    """
    require_sites(model, sites, "Recording")
    latent = single_latent(model, latent)
    source = source_of(model, latent, branch)
    runs = {name: {"latent": latent, **chosen} for name, chosen in settings.items()}
    recordings = [
        Recording.of(name, sampling_recipe(model, **run, branch=branch, sites=sites, grid=grid), source, seeds)
        for name, run in runs.items()
    ]
    planned = list(zip(recordings, runs.values(), strict=True))
    steps = sum(recording.batches(batch_size) * (len(run["sigmas"]) - 1) for recording, run in planned)
    progress = Progress(model, steps)

    def sampled(run: dict, batch: Sequence[int]) -> Trajectories:
        watched, recorder = record(model, branch, sites, kept=pooled_to(grid) if grid else maps)
        latents = sample(watched, **run, seeds=batch, on_step=progress)
        return Trajectories(*recorder.trajectory(), latents)

    return [recording.complete(batch_size, partial(sampled, run)) for recording, run in planned]


@dataclass(frozen=True, eq=False)
class Trajectories:
    """What became of some seeds, in their order."""

    timesteps: Tensor
    """`(t,)`, descending."""
    h: Mapping[str, Tensor]
    """`(n, t, c, h, w)` by site."""
    latents: Tensor
    """`(n, ...)`."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """`(n, ...)` each: what else is to be kept of them."""


@dataclass(frozen=True, eq=False)
class Recording:
    """A bank that is to hold `seeds`."""

    folder: Path
    recipe: str
    source: Source
    seeds: Sequence[int]
    stored: Bank | None
    """What is on disk."""

    @classmethod
    def of(cls, name: str, recipe: str, source: Source, seeds: Sequence[int]) -> "Recording":
        """In the folder of the bank that this recipe makes; another recipe under the same name has another folder."""
        folder = bank_folder(name, recipe)
        stored = open_bank(folder) if any(folder.glob("*.safetensors")) else None
        return cls(folder, recipe, source, seeds, stored)

    @property
    def missing(self) -> list[int]:
        return sorted(set(self.seeds) - set(self.stored.seeds if self.stored else ()))

    def batches(self, batch_size: int) -> int:
        """How many are still to be sampled."""
        return math.ceil(len(self.missing) / batch_size)

    def complete(self, batch_size: int, sampled: Callable[[Sequence[int]], Trajectories]) -> Bank:
        """The bank of all its seeds; those that are missing are `sampled`, a batch at a time."""
        expected = self.stored.timesteps if self.stored else None
        known = {shard.path for shard in self.stored.shards} if self.stored else set()
        missing = self.missing
        while missing:
            batch, missing = missing[:batch_size], missing[batch_size:]
            found = sampled(batch)
            expected = same_timesteps(expected, found.timesteps)
            with sole_writer(self.folder):
                paths = set(self.folder.glob("*.safetensors"))
                elsewhere, known = seeds_in(paths - known), paths  # another server may record into this bank
                self._write(found, {seed: row for row, seed in enumerate(batch) if seed not in elsewhere})
            del found  # it may be as large as what the next batch takes
            missing = [seed for seed in missing if seed not in elsewhere]
        return open_bank(self.folder).select(self.seeds)

    def _write(self, found: Trajectories, rows: Mapping[int, int]) -> None:
        if rows:
            kept = list(rows.values())
            write_shard(
                self.folder, list(rows), timesteps=found.timesteps,
                h={site: each[kept] for site, each in found.h.items()}, latents=found.latents[kept],
                source=self.source, recipe=self.recipe,
                extras={name: tensor[kept] for name, tensor in found.extras.items()},
            )  # fmt: skip


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """No other server writes into the bank in `folder` meanwhile: waits until it is done. A killed one has let go."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock").acquire()
    except OSError as error:
        raise ValueError(
            f"Could not write into the bank {folder.name}: {error}. Nothing was changed; free some disk space or check "
            f"the permissions of {folder}, then run again."
        ) from error
    with lock:
        yield


def sampling_recipe(
    model, *, positive, negative, cfg, sampler, sigmas, latent, branch: str, sites: Sequence[str] = (MIDDLE,),
    grid: int | None = None,
) -> str:  # fmt: skip
    """JSON of all that decides what a seed becomes: by it a bank is continued, or sampled anew."""
    elsewhere = {"sites": list(sites), "grid": grid} if tuple(sites) != (MIDDLE,) else {}  # as banks were named before
    recipe = {
        "sample": model_family(model),
        "model": model_digest(model),
        "positive": digest(positive),
        "negative": digest(negative),
        "cfg": cfg,
        "sampler": getattr(getattr(sampler, "sampler_function", sampler), "__name__", type(sampler).__name__),
        "sampler_digest": digest(sampler),
        "sigmas": [float(f"{sigma:.6g}") for sigma in sigmas.tolist()],
        "latent": list(latent["samples"].shape),
        "latent_digest": digest(latent),
        "branch": branch,
        **elsewhere,
    }
    return json.dumps(recipe, sort_keys=True)


def source_of(model, latent: dict, branch: str) -> Source:
    pixels = model.get_model_object("latent_format").spacial_downscale_ratio
    height, width = latent["samples"].shape[-2:]
    return Source(model_family(model), weights_fingerprint(model), branch, (width * pixels, height * pixels))


def bank_folder(name: str, recipe: str) -> Path:
    """The folder of the bank that this recipe makes; another recipe under the same name has another folder."""
    root = Path(folder_paths.get_folder_paths(BANKS)[0])
    return safe_path(root, f"{name}-{digest(recipe)}", suffix="")


def folder_of(bank: Bank) -> str:
    """Where in the folder of banks it is."""
    return bank.shards[0].path.parent.relative_to(folder_paths.get_folder_paths(BANKS)[0]).as_posix()


def same_timesteps(expected: Tensor | None, timesteps: Tensor) -> Tensor:
    """`timesteps`. `ValueError` if the bank's pictures so far were recorded at others."""
    if expected is not None and not torch.equal(expected, timesteps):
        raise ValueError(
            f"This sampler chooses its own timesteps for each picture: got {timesteps.tolist()}, wanted "
            f"{expected.tolist()} as before. Use a sampler with fixed steps, not dpm_adaptive."
        )
    return timesteps
