"""Seeds sampled with and without something, of whose h only running sums are kept: one file, however many they are."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from ...directions import HALVES, Direction, FoundDirection, PairSums, Source, brief, opened, parsed, write_whole
from .bank_recording import bank_folder, same_timesteps, sampling_recipe, source_of
from .calibration import MOST_RUNS, Calibrated, Calibration, Side
from .progress import Progress
from .recorder import maps, record
from .sampling import sample, single_latent
from .sites import require_sites

FILE = "pairs.safetensors"
SHOWN = 8
"""Of so many seeds the finished latents are kept, to measure what a direction does to them."""
SAVE_EVERY = 60.0
"""Seconds. Whatever ends the recording is saved too, but for a kill."""
SIDES = ("with", "without")

Scene = Mapping[str, dict]
"""What is sampled, by side."""


@dataclass(eq=False)
class Pairs:
    """What is known of the seeds so far."""

    path: Path
    sums: PairSums
    seeds: list[int]
    latents: dict[str, Tensor]
    """`(n, ...)` of the first `SHOWN` seeds, by side."""
    source: Source
    recipe: str
    calibrated: Calibrated | None = None
    """How far the direction of just these pairs goes, once that has been measured."""

    @property
    def shown(self) -> list[int]:
        return self.seeds[:SHOWN]

    def save(self) -> None:
        tensors = self.sums.tensors() | {f"latents.{side}": each for side, each in self.latents.items()}
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        about = {"seeds": self.seeds, "calibrated": self.calibrated and astuple(self.calibrated)}
        write_whole(tensors, self.path, {name: json.dumps(each) for name, each in about.items()})


def find_slider(
    model,
    scenes: Sequence[Scene],
    *,
    name: str,
    seeds: Sequence[int],
    batch_size: int,
    branch: str,
    sites: Sequence[str],
) -> tuple[FoundDirection, Calibrated]:
    """The direction from "without" to "with", of which strength 1 goes the whole way, and how far it does."""
    pairs = record_pairs(
        model, scenes, name=name, seeds=seeds, batch_size=batch_size, branch=branch, sites=sites
    )  # fmt: skip
    recipe = {"find": "pairs", "seeds": pairs.seeds, "scenes": json.loads(pairs.recipe)}
    found = pairs.sums.direction(name=name, source=pairs.source, recipe=json.dumps(recipe))
    calibrated = calibrate(model, pairs, found.direction, scenes, batch_size)
    return replace(found, direction=calibrated.applied(found.direction)), calibrated


def record_pairs(
    model,
    scenes: Sequence[Scene],
    *,
    name: str,
    seeds: Sequence[int],
    batch_size: int,
    branch: str,
    sites: Sequence[str],
) -> Pairs:
    """`seeds` with and without, dealt out among the `scenes`; those of the last run are not sampled again."""
    require_sites(model, sites, "Recording")
    scenes = [_with_latent(model, scene) for scene in scenes]
    recipes = [
        {side: json.loads(sampling_recipe(model, **scene[side], branch=branch, sites=sites)) for side in SIDES}
        for scene in scenes
    ]
    if any(each["with"] == each["without"] for each in recipes):
        raise ValueError(
            "The two prompts are the same: got one, wanted two that differ, best in one word. Change a word of one."
        )
    recipe = json.dumps(recipes)
    path = bank_folder(f"{name} pairs", recipe) / FILE
    source = source_of(model, scenes[0]["with"]["latent"], branch)
    pairs = _stored(path, seeds, source, recipe)
    batches = _batches(sorted(set(seeds) - set(pairs.seeds if pairs else ())), len(scenes), batch_size)
    progress = Progress(model, sum(_steps(scenes[place]) for place, _ in batches))
    saved = time.monotonic()
    try:
        for place, batch in batches:
            found, latents = {}, {}
            for side in SIDES:
                watched, recorder = record(model, branch, sites, kept=maps)
                latents[side] = sample(watched, **scenes[place][side], seeds=batch, on_step=progress)
                timesteps, found[side] = recorder.trajectory()
                same_timesteps(pairs.sums.timesteps if pairs else None, timesteps)
                pairs = pairs or _none_yet(path, timesteps, found[side], source, recipe)
            _count(pairs, len(scenes), batch, found, latents)
            if time.monotonic() - saved > SAVE_EVERY:
                pairs.save()
                saved = time.monotonic()
    finally:
        if batches and pairs and pairs.seeds:
            pairs.save()
    if pairs is None:
        raise ValueError("There is no seed to sample: got a count of 0, wanted 1 or more.")
    return pairs


def calibrate(model, pairs: Pairs, direction: Direction, scenes: Sequence[Scene], batch_size: int) -> Calibrated:
    """How far `direction` takes the pictures without it, each in its scene, towards those with it."""
    if pairs.calibrated is None:
        batches = _batches(pairs.shown, len(scenes), batch_size)
        order = [pairs.shown.index(seed) for _, batch in batches for seed in batch]
        sides = {
            side: Side(
                [_with_latent(model, scenes[place])[side] | {"seeds": batch} for place, batch in batches],
                pairs.latents[side][order],
            )
            for side in SIDES
        }
        steps = sum(_steps(scenes[place]) for place, _ in batches) // 2
        calibration = Calibration(model, sides["without"], sides["with"], Progress(model, MOST_RUNS * steps))
        pairs.calibrated = calibration.of(direction)
        pairs.save()
    return pairs.calibrated


def _with_latent(model, scene: Scene) -> Scene:
    return {side: run | {"latent": single_latent(model, run["latent"])} for side, run in scene.items()}


def _batches(seeds: Sequence[int], scenes: int, batch_size: int) -> list[tuple[int, list[int]]]:
    """The place of a scene, and seeds that are sampled in it at once: seed i in scene i modulo their number."""
    batches = []
    for place in range(scenes):
        here = [seed for seed in seeds if seed % scenes == place]
        batches += [(place, here[first : first + batch_size]) for first in range(0, len(here), batch_size)]
    return sorted(batches, key=lambda each: each[1][0])


def _steps(scene: Scene) -> int:
    return sum(len(scene[side]["sigmas"]) - 1 for side in SIDES)


def _count(
    pairs: Pairs,
    scenes: int,
    batch: list[int],
    h: Mapping[str, Mapping[str, Tensor]],
    latents: Mapping[str, Tensor],
) -> None:
    """Every scene's seeds are in both halves alike."""
    pairs.sums.add([seed // scenes % HALVES for seed in batch], *(h[side] for side in SIDES))
    for side, each in latents.items():
        pairs.latents[side] = torch.cat([pairs.latents[side], each.float().cpu()])[:SHOWN]
    pairs.seeds += batch
    pairs.calibrated = None


def _none_yet(path: Path, timesteps: Tensor, h: Mapping[str, Tensor], source: Source, recipe: str) -> Pairs:
    shapes = {site: (each.shape[2], each.shape[3], each.shape[4]) for site, each in h.items()}
    return Pairs(path, PairSums(timesteps, shapes), [], dict.fromkeys(SIDES, torch.empty(0)), source, recipe)


def _stored(path: Path, seeds: Sequence[int], source: Source, recipe: str) -> Pairs | None:
    """What the last run has left; None where that holds seeds that are not asked for: sums can't be taken apart."""
    if not path.exists():
        return None
    try:
        with opened(path) as file:
            there, measured = (parsed((file.metadata() or {})[name]) for name in ("seeds", "calibrated"))
            if not (isinstance(there, list) and set(there) <= set(seeds)):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it has no other
        latents = {side: tensors[f"latents.{side}"] for side in SIDES}
        calibrated = Calibrated(measured[0], measured[1], (measured[2][0], measured[2][1])) if measured else None
        return Pairs(path, PairSums.of(tensors), list(there), latents, source, recipe, calibrated)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name} in {path.parent.name} can't be read ({brief(error)}): delete it, and its seeds are sampled "
            "again."
        ) from error
