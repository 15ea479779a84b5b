"""How strong a direction is, over the timesteps and over the picture."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..direction import Direction


def norms(direction: Direction) -> Tensor:
    """Norm of the delta at each of its timesteps, `(t,)` float64; of several sites, all in the measure of the first."""
    squares = [each.square().flatten(1).sum(1) for each in _measured(direction)]
    norm: Tensor = torch.stack(squares).sum(0).sqrt()
    return norm


def layout(direction: Direction) -> Tensor:
    """Where in the picture the energy lies: the share of each place of the largest map, `(h, w)` float64, sum 1.

    The squares of the deltas, summed over channels, timesteps and sites. All zero for a direction that does nothing.
    """
    maps = [each.square().sum((0, 1)) for each in _measured(direction)]
    size = max((tuple(each.shape) for each in maps), key=lambda shape: shape[0] * shape[1])
    energy = torch.stack([_spread_out(each, size) for each in maps]).sum(0)
    return energy / energy.sum().clamp(min=1e-300)


def _measured(direction: Direction) -> list[Tensor]:
    """The deltas `(t, c, h, w)` float64, each site in its own spread, counted in the first's; as they are where a
    spread is not known."""
    known = direction.spreads if direction.spreads.keys() == direction.deltas.keys() else {}
    first = known.get(direction.sites[0])
    return [
        delta.double() if first is None else delta.double() * (first / known[site]).double().reshape(-1, 1, 1, 1)
        for site, delta in direction.deltas.items()
    ]


def _spread_out(energy: Tensor, size: tuple[int, ...]) -> Tensor:
    """The same energy over a larger map."""
    if tuple(energy.shape) == size:
        return energy
    larger: Tensor = interpolate(energy[None, None], size, mode="nearest-exact")[0, 0]
    return larger * (energy.sum() / larger.sum().clamp(min=1e-300))
