"""How much of a picture follows its h: what happens to it with the h of another, and with noise as large."""

import torch
from torch import Tensor


def share_of_way(swapped: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """How far each picture `(n, ...)` went from its `own` self towards the `other` whose h it was given, `(n,)`.

    0: it stayed as it was; 1: it became the other. The part of the change along the difference of the two pictures.
    """
    difference = (other - own).double().flatten(1)
    share: Tensor = ((swapped - own).double().flatten(1) * difference).sum(1) / difference.square().sum(1)
    return share


def relative_distance(changed: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """How far each picture `(n, ...)` went from its `own` self in any direction, `(n,)`; 1 is as far as the `other`."""
    change, difference = ((each - own).double().square().flatten(1).sum(1) for each in (changed, other))
    distance: Tensor = (change / difference).sqrt()
    return distance


def norm_matched_noise(difference: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise with the norm that `difference (n, t, c, h, w)` has in each sample and at each timestep."""
    noise = torch.randn(difference.shape, generator=generator)
    size = (2, 3, 4)
    scale = difference.float().square().sum(size, keepdim=True) / noise.square().sum(size, keepdim=True)
    return noise * scale.sqrt()
