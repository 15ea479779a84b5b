"""Recorded h for a whole sampling, put on the device before it is needed: then a call of the UNet reads nothing back.

A card finds the h of its timestep itself. On a CPU, where reading is free, that is looked up when its step comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .clock import Clock
from .edits import Layout, Substitution, not_recorded
from .prepared import BOUND


@dataclass(frozen=True, eq=False)
class Table:
    """Recorded h on the device of the model's own."""

    timesteps: Tensor
    """`(k,)`"""
    recorded: Mapping[int, Tensor]
    """`(k, samples, c, h, w)` by the place of a prompt in the batch."""

    @classmethod
    def of(cls, edit: Substitution, at: Layout, clock: Clock) -> "Table | None":
        """None where it would take more memory than `BOUND`, or none of it fits: then every call looks by itself."""
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
    return timesteps[(above > edit.sigma_end) & (below <= edit.sigma_start)].tolist()


@dataclass(eq=False)
class Substituted:
    """What one site and layout is given. Lives for one sampling."""

    edit: Substitution
    at: Layout
    table: Table | None
    missed: Tensor | None = None
    """`(1,)` on the card: the last timestep at which nothing was recorded, -1 where there was none."""

    @classmethod
    def of(cls, edit: Substitution, at: Layout, clock: Clock) -> "Substituted":
        return cls(edit, at, Table.of(edit, at, clock) if at.device.type != "cpu" else None)

    def __call__(self, h: Tensor, sigma: Tensor, timestep: Tensor) -> Tensor:
        if self.table is None:
            sigma_now, timestep_now = torch.cat([sigma, timestep]).tolist()  # waiting once for both
            return self.edit(h, self.at.branches, timestep_now) if self.edit.acts_at(sigma_now) else h
        matches = self.table.timesteps == timestep
        place, known = matches.int().argmax(0, keepdim=True), matches.any()
        acts = (sigma > self.edit.sigma_end) & (sigma <= self.edit.sigma_start)
        missed = torch.full_like(timestep, -1) if self.missed is None else self.missed
        self.missed = torch.where(acts & ~known, timestep, missed)
        chunks = list(h.chunk(len(self.at.branches)))
        for chunk, recorded in self.table.recorded.items():
            chunks[chunk] = torch.where(acts & known, recorded.index_select(0, place)[0], chunks[chunk])
        return torch.cat(chunks)

    def require_recorded(self) -> None:
        """`ValueError` if the sampler came to a timestep where nothing was recorded. Reads that back."""
        if self.missed is not None and (timestep := float(self.missed)) >= 0:
            raise not_recorded(timestep)
