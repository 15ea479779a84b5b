"""Directions that are contrasts: weighted sums of trajectories with weights that sum to 0, and how reliable they are.

Whoever finds such a direction decides the weights from labels alone. Then h is read once, slice by slice, for the
direction and for the Gram matrix of the centred trajectories that its reliability is measured with.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..banks import Bank
from ..measures import Contrast, Examples, Halvings, SplitHalfReliability

Progress = Callable[[int, int], None]


def find_contrast(
    banks: Sequence[Bank],
    contrast: Contrast,
    examples: Examples,
    *,
    on_progress: Progress = lambda done, total: None,
) -> tuple[Tensor, SplitHalfReliability | None]:
    """The direction `(t, c, h, w)` float32 of `contrast` over the rows of all `banks` in order, and its reliability.

    There is none with fewer than four positives or negatives. Reads a slice of channels at a time.
    """
    n, steps = sum(map(len, banks)), len(banks[0].timesteps)
    weights = contrast(torch.ones(n, dtype=torch.bool))
    halvings = Halvings.of(n, contrast, examples)
    total = torch.zeros(n, n, dtype=torch.float64)
    deltas, measures = [], []
    for step in range(steps):
        delta, gram = _read(banks, step, weights)
        deltas.append(delta)
        total += gram
        if halvings:
            measures.append(halvings.measure(gram, examples))
        on_progress(step + 1, steps)
    reliability = None
    if halvings:
        d_prime, cosine = torch.tensor(measures, dtype=torch.float64).unbind(1)
        reliability = SplitHalfReliability(banks[0].timesteps, d_prime, cosine, *halvings.measure(total, examples))
    return torch.stack(deltas).reshape(steps, *banks[0].shape), reliability


def _read(banks: Sequence[Bank], step: int, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted sum `(d,)` float32 and the Gram matrix `(n, n)` float64 of the centred rows at one step."""
    n = len(weights)
    gram = torch.zeros(n, n, dtype=torch.float64)
    pieces = []
    for channels in max(banks, key=len).slices():
        h = torch.cat([bank.h(step, channels).flatten(1) for bank in banks])
        h = h - h.mean(0)  # the weights sum to 0, so it changes rounding alone
        pieces.append(weights.float() @ h)
        gram += h @ h.T
    return torch.cat(pieces), gram
