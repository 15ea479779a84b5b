"""The rounds in which a slider is learnt from words, each a sampling of its own prompts and seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ...directions import Direction, SiteVector
from .calibration import MOST_RUNS, Calibrated, Calibration, Side
from .progress import Progress
from .recorder import maps, record
from .sampling import sample, sample_guided
from .slider_lesson import Lesson, Prompts, Teacher, together
from .trainer import named

SHOWN = 8
"""Pictures in which it is measured how far a direction goes."""

PromptsOf = Callable[[int], Sequence[list]]
"""Conditionings of a picture by its number: without the word, with it, with its opposite, and either side of each thing
that is kept."""


@dataclass(frozen=True, eq=False)
class Learnt:
    """A direction on its way. Lives while it is learnt."""

    rows: list[Tensor]
    """`(d,)` for each step."""
    losses: list[float]
    """Of each round, in pictures it had not learnt from: 1 nothing learnt, 0 the words' own effect."""

    def state_dict(self) -> dict[str, Tensor]:
        """All that it takes to go on later, to the bit."""
        return {"learnt": torch.stack(self.rows), "losses": torch.tensor(self.losses, dtype=torch.float64)}


@dataclass(frozen=True, eq=False)
class SliderTrainer:
    """What all rounds share."""

    model: object
    prompts_of: PromptsOf
    negative: list
    run: dict
    """Sampler, sigmas, latent."""
    cfg: float
    first_seed: int
    batch_size: int
    rounds: int
    sites: tuple[str, ...]

    @cached_property
    def progress(self) -> Progress:
        return Progress(self.model, (1 + self.rounds) * (len(self.run["sigmas"]) - 1))

    @cached_property
    def seen(self) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Timesteps `(t,)` of a batch without the direction, and what it has at each site, `(n, t, c, h, w)`."""
        watched, recorder = record(self.model, "positive", self.sites, kept=maps)
        numbers = range(self.batch_size)
        prompts = self._prompts(numbers)
        given = dict(positive=prompts.neutral, negative=prompts.negative, cfg=self.cfg)
        sample(watched, **given, **self.run, seeds=self._seeds(numbers), on_step=self.progress)
        return recorder.trajectory()

    @cached_property
    def vector(self) -> SiteVector:
        shapes = {site: tuple(h.shape[2:]) for site, h in self.seen[1].items()}
        scales = {site: float(h.float().std()) for site, h in self.seen[1].items()}
        return SiteVector(shapes, scales)

    def started(self, state: Mapping[str, Tensor], file: Path) -> Learnt:
        """What the state of an earlier learning holds, which is from `file`; nothing learnt without one."""
        steps, length = len(self.run["sigmas"]) - 1, len(self.vector)
        if not state:
            return Learnt([torch.zeros(length) for _ in range(steps)], [])
        with named(file):
            rows = state["learnt"]
            if rows.shape != (steps, length) or not rows.isfinite().all():
                raise ValueError(f"got other numbers than the {length} finite ones of each of {steps} steps")
            return Learnt(list(rows), state["losses"].tolist())

    def train_round(self, learnt: Learnt) -> None:
        """Learn from the next round's pictures, which are sampled with the direction on."""
        number = len(learnt.losses)
        numbers = range(number * self.batch_size, (number + 1) * self.batch_size)
        prompts, teacher = self._prompts(numbers), Teacher(self.vector, learnt.rows, 1 / (number + 1), self.cfg / 2)
        lesson = Lesson(self.model, prompts, self.cfg, self.run["sigmas"], teacher)
        seeds = self._seeds(numbers, each=2 if prompts.kept else 1)
        sample_guided(lesson, **self.run, seeds=seeds, on_step=self.progress)
        learnt.losses.append(sum(teacher.losses) / len(teacher.losses))

    def direction(self, learnt: Learnt, **words) -> Direction:
        """What has been learnt."""
        timesteps, seen = self.seen
        spreads = {site: h.float().var(0).sum((1, 2, 3)).sqrt() for site, h in seen.items()}
        return Direction(
            deltas=self.vector.deltas(torch.stack(learnt.rows)), timesteps=timesteps, method="learnt from words",
            spreads=spreads, **words,
        )  # fmt: skip

    def calibrated(self, direction: Direction) -> Calibrated:
        """How far it takes fresh pictures without the word towards those with it."""
        numbers = range(self.rounds * self.batch_size, self.rounds * self.batch_size + SHOWN)
        prompts, seeds = self._prompts(numbers), self._seeds(numbers)
        progress = Progress(self.model, (2 + MOST_RUNS) * (len(self.run["sigmas"]) - 1))
        sides = []
        for positive in (prompts.neutral, prompts.towards):
            given = dict(positive=positive, negative=prompts.negative, cfg=self.cfg, **self.run, seeds=seeds)
            sides.append(Side([given], sample(self.model, **given, on_step=progress)))
        return Calibration(self.model, *sides, progress).of(direction)

    def _prompts(self, numbers: Sequence[int]) -> Prompts:
        neutral, towards, away, *kept = map(together, zip(*map(self.prompts_of, numbers), strict=True))
        return Prompts(neutral, self.negative, towards, away, kept)

    def _seeds(self, numbers: Sequence[int], each: int = 1) -> list[int]:
        return [self.first_seed + number // each for number in numbers]
