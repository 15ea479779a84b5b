"""When a call of the UNet comes in its sampling, in numbers, and what is made ready for the call after it.

This is for what has no room on a card for all steps at once. The numbers are asked for where the call begins: the card
goes on with what is queued of it while they are on their way. What the schedule's next step needs is made, and begins
its own way, when the whole call is queued.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

import torch
from torch import Tensor

from .transfers import Readback

Made = TypeVar("Made")


@dataclass(eq=False)
class Moment:
    """Lives for one call of the UNet."""

    sigmas: Tensor
    """`(b,)`, all the same."""
    timesteps: Tensor
    """As these."""

    _coming: Readback | None = None

    def ask(self) -> None:
        """Have the numbers begin their way to the CPU."""
        self._coming = Readback.of([(torch.cat([self.sigma, self.timestep]), torch.float32)])

    @cached_property
    def numbers(self) -> tuple[float, float]:
        """Sigma and timestep. Waits for both, if they were not asked for before, until the card has come so far."""
        if self._coming is None:
            sigma, timestep = torch.cat([self.sigma, self.timestep]).tolist()
        else:
            sigma, timestep = self._coming.wait()[0].tolist()
        return sigma, timestep

    @property
    def sigma(self) -> Tensor:
        """`(1,)`."""
        return self.sigmas[:1]

    @property
    def timestep(self) -> Tensor:
        """`(1,)`."""
        return self.timesteps[:1]


@dataclass(eq=False)
class Ahead(Generic[Made]):
    """What is made for a sigma and its timestep, the latest and the next. Lives for one sampling."""

    make: Callable[[float, float], Made]
    following: Mapping[float, tuple[float, float]] = field(default_factory=dict)
    """By each sigma of the schedule the next, and its timestep."""
    made: dict[float, Made] = field(default_factory=dict)
    """By sigma, two at most."""

    def at(self, sigma: float, timestep: float) -> Made:
        if sigma not in self.made:
            latest = dict([*self.made.items()][-1:])
            self.made = {**latest, sigma: self.make(sigma, timestep)}
        return self.made[sigma]

    def look(self, sigma: float) -> None:
        """Make what the schedule has after `sigma`, if that was made."""
        if sigma in self.made and sigma in self.following:
            following, timestep = self.following[sigma]
            if following not in self.made:
                self.made = {sigma: self.made[sigma], following: self.make(following, timestep)}
