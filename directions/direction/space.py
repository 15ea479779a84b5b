"""The space that several directions share: their timesteps and sites, and the measure in which sites are compared.

A direction of several sites is one vector. Each site is scaled by its own spread at each timestep, or else the largest
map would decide everything: <a, b> is the sum over sites s and timesteps t of <a_st, b_st> / (spread_st / spread_0t)^2,
site 0 being the first. So for a single site it is the plain inner product, whatever its spread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from .direction import Direction, common_timesteps

LEAST_VARIANCE = 1e-60
"""So that what never varies has a spread, and one that float32 can hold."""


def spreads_of(grams: Mapping[str, Tensor]) -> dict[str, float]:
    """How far h varies at each site, from the Gram matrices `(n, n)` of its centred trajectories there."""
    variances = {site: gram.trace().item() / (len(gram) - 1) for site, gram in grams.items()}
    return {site: max(variance, LEAST_VARIANCE) ** 0.5 for site, variance in variances.items()}


def factors_of(spreads: Mapping[str, float]) -> dict[str, float]:
    """What h of each site is multiplied with where sites are compared; 1 for the first."""
    first = next(iter(spreads.values()))
    return {site: first / spread for site, spread in spreads.items()}


@dataclass(frozen=True, eq=False)
class Space:
    timesteps: Tensor
    """`(t,)`: those of every direction."""
    shapes: Mapping[str, tuple[int, int, int]]
    """Channels, height and width, by site."""
    spreads: Mapping[str, Tensor]
    """`(t,)` by site; one site alone may be without."""

    @classmethod
    def of(cls, directions: Sequence[Direction]) -> "Space":
        """`ValueError` if they can't be compared."""
        for other in directions[1:]:
            directions[0].require_same_space(other)
        timesteps = reduce(common_timesteps, [direction.timesteps for direction in directions])
        shapes: dict[str, tuple[int, int, int]] = {}
        spreads: dict[str, Tensor] = {}
        for direction in directions:
            shapes |= {site: shape for site, shape in direction.shapes.items() if site not in shapes}
            spreads |= {
                site: direction.spread_at(site, timesteps).clone() for site in direction.spreads if site not in spreads
            }
        missing = [site for site in shapes if site not in spreads]
        if missing and len(shapes) > 1:
            names = ", ".join(f'"{direction.name}"' for direction in directions if missing[0] in direction.deltas)
            raise ValueError(
                "Directions of several sites are compared by how far h varies at each: got none known for "
                f"{missing[0]} of {names}, wanted one. Find it again in a bank that has all of the sites."
            )
        return cls(timesteps, shapes, spreads)

    def vector(self, direction: Direction) -> Tensor:
        """`(t, d)` float32: the direction's deltas side by side, scaled; 0 at sites it doesn't have."""
        return torch.cat([self._scaled(direction, site) for site in self.shapes], dim=1)

    def deltas(self, vector: Tensor) -> dict[str, Tensor]:
        """What `vector` was made from."""
        sizes = [torch.Size(shape).numel() for shape in self.shapes.values()]
        parts = zip(self.shapes, torch.split(vector, sizes, dim=1), strict=True)
        return {site: (part * self._scale(site)).reshape(-1, *self.shapes[site]) for site, part in parts}

    def _scaled(self, direction: Direction, site: str) -> Tensor:
        if site not in direction.deltas:
            return torch.zeros(len(self.timesteps), torch.Size(self.shapes[site]).numel())
        return direction.at(site, self.timesteps).flatten(1) / self._scale(site)

    def _scale(self, site: str) -> Tensor:
        """`(t, 1)`: what the deltas of a site are divided by."""
        first = next(iter(self.shapes))
        if site == first:
            return torch.ones(len(self.timesteps), 1)
        return (self.spreads[site] / self.spreads[first]).unsqueeze(1)
