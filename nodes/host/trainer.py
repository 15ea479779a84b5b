"""The rounds in which a direction is learnt, and where an interrupted one goes on."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from ...directions import Direction, Learner, brief, minibatch, opened
from .baseline import Baseline, BaselinePass
from .injection import inject
from .objective import Objective
from .progress import Progress
from .sampling import sample
from .split_passes import visit_steps
from .train_step import TrainStep


@dataclass(frozen=True, eq=False)
class Trainer:
    """What all rounds share."""

    model: object
    run: dict
    vae: object
    objective: Objective
    seeds: range
    batch_size: int
    branch: str
    rounds: int
    site: str

    @cached_property
    def progress(self) -> Progress:
        batches = math.ceil(len(self.seeds) / self.batch_size)
        return Progress(self.model, (batches + self.rounds) * (len(self.run["sigmas"]) - 1))

    def measure_baseline(self) -> Baseline:
        parts = []
        for first in range(0, len(self.seeds), self.batch_size):
            baseline_pass = BaselinePass(self.objective, self.vae)
            self._sample(baseline_pass, self.seeds[first : first + self.batch_size], learning=False)
            parts.append(baseline_pass.baseline())
        return _require_usable(Baseline.joined(parts), self.objective)

    def train_round(self, learner: Learner, baseline: Baseline, number: int, keep: float) -> tuple[Tensor, Tensor]:
        """Latents of the round's pictures without the delta and with it, `(n, ...)` each."""
        rows = minibatch(len(self.seeds), self.batch_size, number)
        train_step = TrainStep(learner, self.objective, self.vae, baseline, rows, keep)
        edited = self._sample(train_step, [self.seeds[row] for row in rows], learning=True)
        learner.losses.append(sum(train_step.losses) / len(train_step.losses))
        return baseline.predictions[-1][rows], edited

    def edited(self, direction: Direction, count: int) -> Tensor:
        """Latents `(n, ...)` of the first `count` pictures with `direction` at strength 1."""
        model = inject(self.model, direction, [1.0])
        return sample(model, **self.run, seeds=self.seeds[:count], on_step=lambda x0: None)

    def _sample(self, visit, seeds, *, learning: bool) -> Tensor:
        model = visit_steps(self.model, self.run["sigmas"], self.branch, self.site, visit, learning=learning)
        return sample(model, **self.run, seeds=seeds, on_step=self.progress)


def read_checkpoint(file: Path, rounds: int) -> dict[str, Tensor]:
    """What an interrupted learning left; nothing of a new one. `ValueError` where it has more than `rounds` already."""
    if not file.exists():
        return {}
    with named(file), opened(file) as stored:
        state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118, it has no other
        done = state["losses"].numel()
    if done > rounds:
        raise ValueError(
            f"More was learnt already: got rounds {rounds}, wanted {done} or more, to go on from there. For fewer, "
            "choose another name."
        )
    return state


def start_learner(shape: tuple[int, ...], scale: Tensor, rate: float, state: dict[str, Tensor], file: Path) -> Learner:
    """The learner that goes on from the `state` that `file` holds; a new one without a state."""
    with torch.inference_mode(False), named(file):
        learner = Learner(shape, scale, rate)
        if state:
            learner.load_state_dict(state)
    return learner


@contextmanager
def named(file: Path) -> Iterator[None]:
    """Names the file in what is raised while it is read."""
    try:
        yield
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"What was learnt before can't be read ({brief(error)}): delete {file.name} in {file.parent.name}."
        ) from error


def _require_usable(baseline: Baseline, objective: Objective) -> Baseline:
    """`baseline`. `ValueError` where the objective sees the same in all pictures."""
    if not (baseline.features[-1].std(0) > 0).all():
        raise ValueError(
            f"The objective ({objective.name}) sees the same in all {baseline.features.shape[1]} pictures: got one "
            "score for all, wanted different ones. Raise count, or use another objective."
        )
    return baseline
