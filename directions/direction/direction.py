"""A semantic direction: what to add to h at each site and timestep, and where it came from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from types import MappingProxyType

import torch
from torch import Tensor

from .recipe import weighted_sum
from .source import Source


@dataclass(frozen=True, eq=False)
class Direction:
    """A trajectory through h-space, at one site or at several at once, in a unit where 1 is a clear edit."""

    deltas: Mapping[str, Tensor]
    """By site, `(t, c, h, w)` float32 on the CPU; t == 1 means the same at every timestep."""
    timesteps: Tensor
    """`(t,)` float32, model time, strictly descending."""
    name: str
    method: str
    """How it was found, such as "PCA per timestep"."""
    unit: str
    """What strength 1 means, in words."""
    source: Source
    recipe: str
    """JSON: what to do to find it again."""
    author: str = ""
    """Who made it, as they wish to be named."""
    spreads: Mapping[str, Tensor] = field(default_factory=dict)
    """By site, `(t,)` float32: how far h varies there, the root of its variance summed over all its numbers. Sites are
    compared in it; a direction of one site needs none."""
    usable: tuple[float, float] | None = None
    """The lowest and the highest strength at which it still does what it is for, as measured; None where nobody did."""

    def __post_init__(self) -> None:
        for what in ("deltas", "spreads"):
            object.__setattr__(self, what, MappingProxyType(dict(getattr(self, what))))
        if not self.deltas:
            raise ValueError("A direction must have a site: got none.")
        for site, delta in self.deltas.items():
            self._check_delta(site, delta)
        if not torch.isfinite(self.timesteps).all():
            raise ValueError(f'Direction "{self.name[:200]}" holds NaN or infinity: find it again.')
        if not (self.timesteps.diff() < 0).all():
            raise ValueError(f"A direction's timesteps must descend strictly: got {self.timesteps[:50].tolist()}.")
        for site, spread in self.spreads.items():
            known = site in self.deltas and spread.shape == self.timesteps.shape and spread.dtype == torch.float32
            if not (known and torch.isfinite(spread).all() and (spread > 0).all()):
                raise ValueError(
                    f"A direction's spread at {site[:50]} must be a positive float32 number for each timestep of a "
                    f"site it has: got {spread[:50].tolist()}."
                )

        if self.usable is not None:
            low, high = self.usable
            if not (isfinite(low) and isfinite(high) and low <= 0 <= high):
                raise ValueError(f"A direction is usable from 0 or below to 0 or above: got {low} to {high}.")

    def _check_delta(self, site: str, delta: Tensor) -> None:
        if delta.ndim != 4 or delta.dtype != torch.float32:
            raise ValueError(
                f"A direction's delta must be float32 of shape (t, c, h, w): got {delta.dtype} "
                f"of shape {tuple(delta.shape)} at {site[:50]}."
            )
        if self.timesteps.shape != delta.shape[:1] or self.timesteps.dtype != torch.float32:
            raise ValueError(
                f"A direction needs one float32 timestep for each delta: got {tuple(self.timesteps.shape)} "
                f"timesteps for {len(delta)} deltas at {site[:50]}."
            )
        if delta.numel() == 0:
            raise ValueError(f"A direction must not be empty: got shape {tuple(delta.shape)} at {site[:50]}.")
        if not torch.isfinite(delta).all():
            raise ValueError(f'Direction "{self.name[:200]}" holds NaN or infinity: find it again.')

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self.deltas)

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """Channels, height and width of each site."""
        return {site: tuple(delta.shape[1:]) for site, delta in self.deltas.items()}  # type: ignore[misc]

    def at(self, site: str, timesteps: Tensor) -> Tensor:
        """The delta `(m, c, h, w)` of `site` at `timesteps (m,)`: linear between its own, held outside their range."""
        return self._interpolated(self.deltas[site], timesteps)

    def spread_at(self, site: str, timesteps: Tensor) -> Tensor:
        """The spread `(m,)` of `site`, likewise. `KeyError` where it isn't known."""
        return self._interpolated(self.spreads[site], timesteps)

    def _interpolated(self, values: Tensor, timesteps: Tensor) -> Tensor:
        if len(self.timesteps) == 1:
            return values.expand(len(timesteps), *values.shape[1:])
        wanted = timesteps.float().clamp(self.timesteps[-1], self.timesteps[0])
        after = torch.searchsorted(-self.timesteps, -wanted).clamp(1, len(self.timesteps) - 1)  # descending
        earlier, later = self.timesteps[after - 1], self.timesteps[after]
        weight = ((earlier - wanted) / (earlier - later)).reshape(-1, *(1,) * (values.ndim - 1))
        return torch.lerp(values[after - 1], values[after], weight)

    def require_same_space(self, other: "Direction") -> None:
        """`ValueError` unless `other` can be added to this direction. It may have other sites besides."""
        self.source.require_match(other.source)
        for site in self.deltas.keys() & other.deltas.keys():
            if self.shapes[site] != other.shapes[site]:
                raise ValueError(
                    f'"{self.name}" and "{other.name}" differ in size at {site}: got {other.shapes[site]}, wanted '
                    f"{self.shapes[site]} (channels, height, width). Find both at the same image size."
                )

    def only(self, sites: Sequence[str]) -> "Direction":
        """The part of it at some of its sites."""
        deltas, spreads = ({s: each[s] for s in sites if s in each} for each in (self.deltas, self.spreads))
        return replace(self, deltas=deltas, spreads=spreads, usable=None)

    def renamed(self, name: str) -> "Direction":
        return replace(self, name=name)

    def __add__(self, other: "Direction") -> "Direction":
        self.require_same_space(other)
        timesteps = common_timesteps(self.timesteps, other.timesteps)
        return replace(
            self,
            deltas={
                site: _sum(each.at(site, timesteps) for each in (self, other) if site in each.deltas)
                for site in {**self.deltas, **other.deltas}
            },
            timesteps=timesteps,
            name=f"{self.name} + {other.name}",
            method=self.method if self.method == other.method else "combination",
            unit=self.unit if self.unit == other.unit else "of its parts",
            recipe=weighted_sum([(1, self.recipe), (1, other.recipe)]),
            author=", ".join(dict.fromkeys(filter(None, (self.author, other.author)))),
            spreads={site: each.spread_at(site, timesteps).clone() for each in (other, self) for site in each.spreads},
            usable=None,
        )

    def __mul__(self, factor: float) -> "Direction":
        return self._times(factor, f"{factor:g} {self.name}")

    __rmul__ = __mul__

    def __neg__(self) -> "Direction":
        return self._times(-1, f"-{self.name}")

    def __sub__(self, other: "Direction") -> "Direction":
        return (self + -other).renamed(f"{self.name} - {other.name}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Direction):
            return NotImplemented
        words = [(d.name, d.method, d.unit, d.source, d.recipe, d.author, d.usable) for d in (self, other)]
        return (
            words[0] == words[1]
            and torch.equal(self.timesteps, other.timesteps)
            and _equal(self.deltas, other.deltas)
            and _equal(self.spreads, other.spreads)
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value, as tensors are

    def _times(self, factor: float, name: str) -> "Direction":
        deltas = {site: delta * factor for site, delta in self.deltas.items()}
        recipe = weighted_sum([(factor, self.recipe)])
        return replace(self, deltas=deltas, recipe=recipe, name=name, usable=self._usable_times(factor))

    def _usable_times(self, factor: float) -> tuple[float, float] | None:
        if self.usable is None or not factor:
            return None
        low, high = sorted(end / factor for end in self.usable)
        return low, high


def common_timesteps(a: Tensor, b: Tensor) -> Tensor:
    """Both sets of timesteps, descending. A direction of one timestep is constant, so it adds none."""
    if len(a) == 1 or len(b) == 1:
        return b if len(a) == 1 else a
    ascending: Tensor = torch.unique(torch.cat([a, b]))
    return ascending.flip(0)


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    first, *rest = tensors
    return sum(rest, first)


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[site], b[site]) for site in a)
