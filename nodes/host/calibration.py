"""How far a direction takes pictures: measured by sampling with it, so that it can be made what strength 1 says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...directions import Direction, gone_along, gone_aside, usable_range
from .injection import inject
from .sampling import Step, sample

CLOSE, TRIES, FARTHEST = 0.05, 5, 8.0
"""How close to the whole way strength 1 is brought, in how many tries, and the largest factor that is tried."""
MOST_RUNS = TRIES + 2
"""The tries, and one for each end of the slider."""


@dataclass(frozen=True)
class Calibrated:
    factor: float
    """What a direction is to be multiplied with."""
    along: float
    """How far strength 1 goes of the way then; 0 where pictures don't follow."""
    usable: tuple[float, float]
    """Strengths between which it does what it is for."""

    def applied(self, direction: Direction) -> Direction:
        scaled = (self.factor * direction).renamed(direction.name)
        return replace(scaled, recipe=direction.recipe, usable=self.usable)

    def words(self) -> str:
        if not self.along:
            return "pictures don't follow it"
        low, high = self.usable
        return f"strength 1 goes {self.along:.0%} of the way; usable from {low:.1f} to {high:.1f}"


@dataclass(frozen=True, eq=False)
class Side:
    """Pictures with what a direction is about, or without."""

    runs: Sequence[dict]
    """What is sampled, one after the other."""
    pictures: Tensor
    """`(n, ...)` latents that come of it without the direction."""


class Calibration:
    """Looks for the strength at which a direction goes the whole way from `without` to `having`; lives meanwhile.

    Negative strengths are measured on the way back.
    """

    def __init__(self, model, without: Side, having: Side, on_step: Step):
        self.model, self.without, self.having = model, without, having
        self.way, self.on_step = (having.pictures - without.pictures).mean(0), on_step
        self.tried: dict[float, tuple[float, float]] = {}

    def of(self, direction: Direction) -> Calibrated:
        strength = self._whole_way(direction)
        if strength is None:
            return Calibrated(1.0, 0.0, (0.0, 0.0))
        for end in (-strength, 2 * strength):
            self._along(direction, end)
        low, high = usable_range(list(self.tried), *zip(*self.tried.values(), strict=True))
        return Calibrated(strength, self.tried[strength][0], (low / strength, high / strength))

    def _whole_way(self, direction: Direction) -> float | None:
        """The strength tried that comes closest to the whole way; None where no strength goes it."""
        strength = 1.0
        for _ in range(TRIES):
            along = self._along(direction, strength)
            if abs(along - 1) <= CLOSE:
                return strength
            strength *= min(max(1 / along, 0.25), 4.0) if along > 0 else 4.0
            if strength > FARTHEST:
                return None
        return min(self.tried, key=lambda each: abs(self.tried[each][0] - 1))

    def _along(self, direction: Direction, strength: float) -> float:
        model, side = inject(self.model, direction, [strength]), self.without if strength > 0 else self.having
        edited = torch.cat([sample(model, **run, on_step=self.on_step) for run in side.runs])
        measures = gone_along(edited, side.pictures, self.way), gone_aside(edited, side.pictures, self.way)
        along, aside = (float(measure.mean()) for measure in measures)
        self.tried[strength] = along, aside
        return along
