"""What injections add to h in a sampling, worked out before it is needed: then a call of the UNet costs an addition.

On a card nothing is read back for it, since a call that waits for its sigma waits for all that runs before: sums are
prepared for the whole schedule, and the card itself finds the one of its sigma. Where they would take too much of its
memory, each is made one step ahead (see `moments`). On a CPU, where reading is free, a sum is made when its step comes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ...directions import PURE_NOISE
from .clock import Clock
from .edits import Injection, Layout
from .moments import Ahead, Moment
from .transfers import uploaded

PIECES = 32
"""In how many straight pieces a curve is followed where a sampler leaves the schedule on a card: .001 of it off."""
BOUND = 2**28
"""Bytes of sums that are prepared for a site. Where they would take more, two steps' are there at a time."""


def total(injections: Sequence[Injection], at: Layout, site: str, sigma: float, timestep: float) -> Tensor | None:
    """What all that act at `sigma` add to h: `(n or 1, b or 1, c, h, w)` like h; None where none does."""
    acting = [each for each in injections if each.window.holds(sigma) and each.apply_to in ("both", *at.branches)]
    added = [each.added(at, site, timestep) for each in acting]
    return uploaded(sum(added[1:], added[0]), at) if added else None


def plus(h: Tensor, added: Tensor, at: Layout) -> Tensor:
    return (h.unflatten(0, (len(at.branches), at.samples)) + added).flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Schedule:
    """The sigmas `(k,)` of a sampling, ascending, with those between which sums are not linear, and their timesteps."""

    sigmas: Tensor
    timesteps: Tensor

    @classmethod
    def of(cls, clock: Clock, sigmas: Tensor, injections: Sequence[Injection]) -> "Schedule":
        own = torch.cat([each.direction.timesteps for each in injections])
        if any(each.curve for each in injections):
            own = torch.cat([own, torch.linspace(0, PURE_NOISE, PIECES + 1)])
        edges = torch.tensor([edge for each in injections for edge in each.window])
        beside = [edges.nextafter(torch.tensor(end)) for end in (0.0, float("inf"))]
        inner = torch.cat([clock.sigma(own.unique()).float().cpu(), edges, *beside])
        sigmas = sigmas.float().cpu()
        sigmas = torch.cat([sigmas, inner[(inner > sigmas.min()) & (inner < sigmas.max())]]).unique()
        sigmas = sigmas[sigmas > 0]
        return cls(sigmas, clock.timestep(sigmas).float().cpu())


@dataclass(frozen=True, eq=False)
class Table:
    """Sums for the whole schedule, on the device of h."""

    sigmas: Tensor
    timesteps: Tensor
    sums: Tensor
    """`(k, n or 1, b or 1, c, h, w)`"""

    @classmethod
    def of(cls, injections: Sequence[Injection], at: Layout, site: str, schedule: Schedule) -> "Table | None":
        """None where it would take more memory than it may, or there are fewer than two sigmas to be between."""
        pairs = list(zip(schedule.sigmas.tolist(), schedule.timesteps.tolist(), strict=True))
        if len(pairs) < 2:
            return None
        sums: list[Tensor | None] = []
        for pair in pairs:
            sums.append(total(injections, at, site, *pair))
            if sum(each.nbytes for each in sums if each is not None) > BOUND:
                return None
        shape = torch.broadcast_shapes((1,), *(each.shape for each in sums if each is not None))
        nothing = torch.zeros(shape, dtype=at.dtype, device=at.device)
        stacked = torch.stack([nothing if each is None else each.expand(shape) for each in sums])
        return cls(*(each.to(at.device) for each in (schedule.sigmas, schedule.timesteps, stacked)))

    def __call__(self, h: Tensor, sigma: Tensor, timestep: Tensor, at: Layout) -> Tensor:
        """h and the sum at `sigma`, `(1,)`: exactly that of the schedule, else linear in the timestep."""
        before = (torch.searchsorted(self.sigmas, sigma.float(), right=True) - 1).clamp(0, len(self.sigmas) - 2)
        low, high = (self.timesteps.index_select(0, place) for place in (before, before + 1))
        share = ((timestep.float() - low) / (high - low)).nan_to_num(0, 0, 0).clamp(0, 1)
        share = torch.where(sigma.float() >= self.sigmas.index_select(0, before + 1), 1, share)
        h = h.unflatten(0, (len(at.branches), at.samples))
        for place, weight in ((before, 1 - share), (before + 1, share)):
            h = torch.addcmul(h, self.sums.index_select(0, place)[0], weight.to(at.dtype))
        return h.flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Prepared:
    """The sums of one site and layout. Lives for one sampling."""

    at: Layout
    table: Table | None
    ahead: Ahead[Tensor | None]
    """In place of a table."""

    @classmethod
    def of(
        cls, injections: Sequence[Injection], at: Layout, site: str, schedule: Schedule,
        following: Mapping[float, tuple[float, float]],
    ) -> "Prepared":  # fmt: skip
        table = Table.of(injections, at, site, schedule) if at.on_card else None
        return cls(at, table, Ahead(partial(total, injections, at, site), following))

    def __call__(self, h: Tensor, moment: Moment) -> Tensor:
        if self.table is not None:
            return self.table(h, moment.sigma, moment.timestep, self.at)
        added = self.ahead.at(*moment.numbers)
        return h if added is None else plus(h, added, self.at)
