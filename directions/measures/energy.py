"""How strong a direction is, over the timesteps and over the picture."""

from torch import Tensor

from ..direction import Direction


def norms(direction: Direction) -> Tensor:
    """Norm of the delta at each of its timesteps, `(t,)` float64."""
    return direction.delta.double().square().sum((1, 2, 3)).sqrt()


def layout(direction: Direction) -> Tensor:
    """Where in the picture the energy lies: the share of each place of the bottleneck, `(h, w)` float64, sum 1.

    The squares of the delta, summed over channels and timesteps. All zero for a direction that does nothing.
    """
    energy = direction.delta.double().square().sum((0, 1))
    return energy / energy.sum().clamp(min=1e-300)
