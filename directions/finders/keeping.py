"""What a direction brings along that is to stay, measured while pictures are sampled with it and against it.

Concept sliders (Gandikota et al., ECCV 2024, arXiv 2311.12092, Eq. 8) say what is to stay in the prompts of the words
alone. That holds the words' difference, not the model's own beliefs: pictures made older get glasses at the next steps
since the model has seen old people with glasses (measured on the prompted faces: as many as without). So it is taken
back as it comes.
"""

import torch
from torch import Tensor

HOLD = 0.5
"""How much of what has been brought along is taken back at a step: it adds up over the steps. Of .21 and .25 sd of
glasses that age brings along on two sets of the prompted faces it left -.08 and .08; a whole -.12 of the first, twice
as much -.21."""


def larger(before: Tensor, now: Tensor) -> Tensor:
    """Of each picture `(n, ...)`, whichever is larger."""
    sizes = (each.flatten(1).norm(dim=1) for each in (before, now))
    return torch.where(_of_pictures(torch.lt(*sizes), now), now, before)


def drift(pictures: Tensor, kept: Tensor) -> Tensor:
    """`(n, 1, ...)`, -1/2 to 1/2: how much more a picture has of what is `kept` than the other of its pair, half each.

    Pictures `(n, ...)` come in pairs of one seed, with the direction and against it. `kept`, of the same shape, is
    what words for the thing change in each: the unit.
    """
    both = (kept[::2] + kept[1::2]).flatten(1) / 2
    apart = (pictures[::2] - pictures[1::2]).flatten(1)
    share: Tensor = (apart * both).sum(1) / both.square().sum(1).clamp(min=torch.finfo(both.dtype).tiny)
    return _of_pictures(share.clamp(-1, 1).repeat_interleave(2), pictures) / 2


def _of_pictures(values: Tensor, pictures: Tensor) -> Tensor:
    """One for each, in a shape that they can be multiplied with."""
    return values.reshape(-1, *(1,) * (pictures.ndim - 1))
