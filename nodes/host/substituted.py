"""Recorded h for a whole sampling, put on the device before it is needed: then a call of the UNet reads nothing back.

A card finds the h of its timestep itself; where all of it would take too much of its memory, it is brought one step
ahead (see `moments`). On a CPU, where reading is free, it is looked up when its step comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .branches import Branch
from .clock import Clock
from .edits import Layout, Substitution, not_recorded, replaced
from .moments import Ahead, Moment
from .prepared import BOUND
from .transfers import uploaded


@dataclass(frozen=True, eq=False)
class Table:
    """Recorded h on the device of the model's own."""

    timesteps: Tensor
    """`(k,)`"""
    recorded: Mapping[int, Tensor]
    """`(k, samples, c, h, w)` by the place of a prompt in the batch."""

    @classmethod
    def of(cls, edit: Substitution, at: Layout, clock: Clock) -> "Table | None":
        """None where it would take more memory than `BOUND`, or none of it fits."""
        timesteps = _acting(edit, clock)
        sides = {place: edit.recorded[side] for place, side in enumerate(at.branches) if side in edit.recorded}
        size = (at.samples, at.channels, at.height, at.width)
        fitting = all(side[each].shape == size for side in sides.values() for each in timesteps)
        numbers = len(sides) * len(timesteps) * torch.Size(size).numel()
        if not timesteps or not fitting or numbers * at.dtype.itemsize > BOUND:
            return None
        recorded = {
            place: torch.stack([side[each] for each in timesteps]).to(at.device, at.dtype)
            for place, side in sides.items()
        }
        return cls(torch.tensor(timesteps).to(at.device), recorded)


def _acting(edit: Substitution, clock: Clock) -> list[float]:
    """The recorded timesteps but those of which all sigmas are outside the window: these reach to its neighbours'."""
    timesteps = torch.tensor(edit.timesteps)
    above, below = (clock.sigma(timesteps + step).float().cpu() for step in (1, -1))
    return timesteps[(above > edit.window.end) & (below <= edit.window.start)].tolist()


@dataclass(eq=False)
class Substituted:
    """What one site and layout is given. Lives for one sampling."""

    edit: Substitution
    at: Layout
    table: Table | None
    ahead: Ahead[Mapping[Branch, Tensor] | None]
    """In place of a table; None where nothing takes the place of h."""
    missed: Tensor | None = None
    """`(1,)` on the card: the last timestep at which nothing was recorded, -1 where there was none."""

    @classmethod
    def of(
        cls, edit: Substitution, at: Layout, clock: Clock, following: Mapping[float, tuple[float, float]]
    ) -> "Substituted":
        def brought(sigma: float, timestep: float) -> Mapping[Branch, Tensor] | None:
            if not edit.window.holds(sigma) or timestep not in edit.timesteps:
                return None
            recorded = edit.recorded_at(timestep)
            return {side: uploaded(recorded[side], at) for side in recorded.keys() & set(at.branches)}

        table = Table.of(edit, at, clock) if at.on_card else None
        return cls(edit, at, table, Ahead(brought, following))

    def __call__(self, h: Tensor, moment: Moment) -> Tensor:
        if self.table is None:
            sigma, timestep = moment.numbers
            if not self.edit.window.holds(sigma):
                return h
            given = self.ahead.at(sigma, timestep) or self.edit.recorded_at(timestep)
            return replaced(h, self.at.branches, given)
        return self._found(h, self.table, moment.sigma, moment.timestep)

    def _found(self, h: Tensor, table: Table, sigma: Tensor, timestep: Tensor) -> Tensor:
        matches = table.timesteps == timestep
        place, known = matches.int().argmax(0, keepdim=True), matches.any()
        acts = self.edit.window.holds(sigma)
        missed = torch.full_like(timestep, -1) if self.missed is None else self.missed
        self.missed = torch.where(acts & ~known, timestep, missed)
        chunks = list(h.chunk(len(self.at.branches)))
        for chunk, recorded in table.recorded.items():
            chunks[chunk] = torch.where(acts & known, recorded.index_select(0, place)[0], chunks[chunk])
        return torch.cat(chunks)

    def require_recorded(self) -> None:
        """`ValueError` if the sampler came to a timestep where nothing was recorded. Reads that back."""
        if self.missed is not None and (timestep := float(self.missed)) >= 0:
            raise not_recorded(timestep)
