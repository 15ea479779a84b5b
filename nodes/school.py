"""The rounds in which a direction is learnt, and where an interrupted one goes on."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from ..directions import Direction, Learner, minibatch
from ..directions.untrusted import brief, opened
from . import unet
from .judge import Judge
from .lesson import Lesson, Plain, Survey, watched
from .picture import grid
from .plots import loss_curve
from .sampling import Progress, sample

CONSTANT, EACH_TIMESTEP = "constant", "each timestep"
SHOWN = 6


@dataclass(frozen=True, eq=False)
class School:
    """What all rounds share."""

    model: object
    run: dict
    vae: object
    judge: Judge
    seeds: range
    batch_size: int
    branch: str
    rounds: int

    @cached_property
    def progress(self) -> Progress:
        batches = math.ceil(len(self.seeds) / self.batch_size)
        return Progress(self.model, (batches + self.rounds) * (len(self.run["sigmas"]) - 1))

    def survey(self) -> Plain:
        parts = []
        for first in range(0, len(self.seeds), self.batch_size):
            survey = Survey(self.judge, self.vae)
            self._sample(survey, self.seeds[first : first + self.batch_size], learning=False)
            parts.append(survey.plain())
        return _usable(Plain.joined(parts), len(self.run["sigmas"]) - 1, self.judge)

    def teach(self, learner: Learner, plain: Plain, number: int, keep: float) -> None:
        rows = minibatch(len(self.seeds), self.batch_size, number)
        lesson = Lesson(learner, self.judge, self.vae, plain, rows, keep)
        edited = self._sample(lesson, [self.seeds[row] for row in rows], learning=True)
        learner.losses.append(sum(lesson.losses) / len(lesson.losses))
        self._show(plain.predictions[-1][rows], edited, learner.losses)

    def _sample(self, visit, seeds, *, learning: bool) -> Tensor:
        model = watched(self.model, self.run["sigmas"], self.branch, visit, learning=learning)
        return sample(model, **self.run, seeds=seeds, on_step=self.progress)

    def _show(self, plain: Tensor, edited: Tensor, losses: list[float]) -> None:
        """Pictures without and with the delta and the loss so far, in the node while it runs."""
        pictures, curve = (
            Image.fromarray(image[0].mul(255).round().byte().numpy())
            for image in (self._sheet(plain, edited), loss_curve(losses))
        )
        sheet = Image.new("RGB", (max(pictures.width, curve.width), pictures.height + curve.height), "white")
        sheet.paste(pictures)
        sheet.paste(curve, (0, pictures.height))
        self.progress.show(sheet)

    def before_and_after(self, plain: Plain, direction: Direction) -> Tensor:
        edited = sample(
            unet.inject(self.model, direction, [1.0]), **self.run, seeds=self.seeds[:SHOWN], on_step=lambda x0: None
        )
        return self._sheet(plain.predictions[-1], edited)

    def _sheet(self, plain: Tensor, edited: Tensor) -> Tensor:
        pictures = torch.stack([self.vae.decode(latents[:SHOWN].clone()) for latents in (plain, edited)])
        columns = [""] * pictures.shape[1]
        return grid(pictures, title=self.judge.name, row_labels=["without", "strength 1"], column_labels=columns)


def learnt(file: Path, rounds: int) -> dict[str, Tensor]:
    """What an interrupted learning left; nothing of a new one. `ValueError` where it has more than `rounds` already."""
    if not file.exists():
        return {}
    with _named(file), opened(file) as stored:
        state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118, it has no other
        done = state["losses"].numel()
    if done > rounds:
        raise ValueError(
            f"More was learnt already: got rounds {rounds}, wanted {done} or more, to go on from there. For fewer, "
            "choose another name."
        )
    return state


def begun(plain: Plain, span: str, rate: float, state: dict[str, Tensor], file: Path) -> Learner:
    """The learner that goes on from the `state` that `file` holds; a new one without a state."""
    scale = plain.scale if span == EACH_TIMESTEP else plain.scale.mean()[None]
    with torch.inference_mode(False), _named(file):
        learner = Learner(plain.shape, scale, rate)
        if state:
            learner.restore(state)
    return learner


@contextmanager
def _named(file: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"What was learnt before can't be read ({brief(error)}): delete {file.name} in {file.parent.name}."
        ) from error


def _usable(plain: Plain, steps: int, judge: Judge) -> Plain:
    """`plain`. `ValueError` where the judge sees the same in all pictures, or the sampler left the schedule."""
    if len(plain.timesteps) != steps:
        raise ValueError(
            f"This sampler takes steps of its own: got {len(plain.timesteps)} of the schedule's {steps}. Use one that "
            "follows it, such as euler_ancestral."
        )
    if not (plain.seen[-1].std(0) > 0).all():
        raise ValueError(
            f"The judge ({judge.name}) sees the same in all {plain.seen.shape[1]} pictures: got one score for all, "
            "wanted different ones. Raise count, or use another judge."
        )
    return plain
