"""What injections add to h in a sampling, worked out before it is needed: then a call of the UNet costs an addition.

On a card nothing is read back for it, since a call that waits for its sigma waits for all that runs before: sums are
prepared for the whole schedule, and the card itself finds the one of its sigma. On a CPU, where reading is free, a sum
is made when its step comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...directions import PURE_NOISE
from .clock import Clock
from .edits import Injection, Layout

PIECES = 32
"""In how many straight pieces a curve is followed where a sampler leaves the schedule on a card: .001 of it off."""
BOUND = 2**28
"""Bytes of sums that are prepared for a site. Where they would take more, every call works out its own."""


def total(injections: Sequence[Injection], at: Layout, site: str, sigma: float, timestep: float) -> Tensor | None:
    """What all that act at `sigma` add to h: `(n or 1, b or 1, c, h, w)` like h; None where none does."""
    acting = [each for each in injections if each.acts_at(sigma) and each.apply_to in ("both", *at.branches)]
    added = [each.added(at, site, timestep) for each in acting]
    return sum(added[1:], added[0]).to(at.device, at.dtype) if added else None


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
        edges = torch.tensor([edge for each in injections for edge in (each.sigma_start, each.sigma_end)])
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


@dataclass(eq=False)
class Prepared:
    """The sums of one site and layout. Lives for one sampling."""

    injections: Sequence[Injection]
    at: Layout
    site: str
    schedule: Schedule
    known: dict[float, Tensor | None] = field(default_factory=dict)
    """By sigma."""
    size: int = 0

    def __post_init__(self) -> None:
        on_card = self.at.device.type != "cpu"
        self.table = Table.of(self.injections, self.at, self.site, self.schedule) if on_card else None

    def __call__(self, h: Tensor, sigma: Tensor, timestep: Tensor) -> Tensor:
        if self.table is not None:
            return self.table(h, sigma, timestep, self.at)
        added = self._sum(float(sigma), timestep)
        return h if added is None else plus(h, added, self.at)

    def _sum(self, sigma: float, timestep: Tensor) -> Tensor | None:
        if sigma in self.known:
            return self.known[sigma]
        added = total(self.injections, self.at, self.site, sigma, float(timestep))
        size = 0 if added is None else added.numel() * added.element_size()
        if self.size + size <= BOUND:
            self.known[sigma], self.size = added, self.size + size
        return added
