"""Directions that are contrasts: weighted sums of trajectories with weights that sum to 0, and how reliable they are.

Whoever finds such a direction decides the weights from labels alone. Then h is read once, slice by slice, for the
direction and for the Gram matrix of the centred trajectories that its reliability is measured with.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..banks import Bank, in_order
from ..direction import factors_of, spreads_of
from ..measures import Contrast, Examples, Halvings, SplitHalfReliability
from .gram import Piece, add_rows, empty_rows, gathered, mirrored, pieces_of

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class FoundContrast:
    deltas: dict[str, Tensor]
    """`(t, c, h, w)` float32 by site."""
    spreads: dict[str, Tensor]
    """`(t,)` float32 by site: how far h of all the trajectories varies there."""
    reliability: SplitHalfReliability | None
    """None with fewer than four positives or negatives."""


def find_contrast(
    banks: Sequence[Bank],
    contrast: Contrast,
    examples: Examples,
    *,
    on_progress: Progress = lambda done, total: None,
    executor: Executor | None = None,
) -> FoundContrast:
    """The direction of `contrast` over the rows of all `banks` in order. Reads a slice of channels at a time.

    An `executor` multiplies the matrices elsewhere, where the banks' folders must have the same paths.
    """
    n, steps, shapes = sum(map(len, banks)), len(banks[0].timesteps), banks[0].shapes
    weights = contrast(torch.ones(n, dtype=torch.bool))
    halvings = Halvings.of(n, contrast, examples)
    total = torch.zeros(n, n, dtype=torch.float64)
    deltas: dict[str, list[Tensor]] = {site: [] for site in shapes}
    spreads: dict[str, list[float]] = {site: [] for site in shapes}
    measures = []
    for step in range(steps):
        grams = {}
        for site in shapes:
            delta, grams[site] = _read(banks, site, step, weights, executor)
            deltas[site].append(delta)
        here = spreads_of(grams)
        gram = sum((factor**2 * grams[site] for site, factor in factors_of(here).items()), torch.zeros(()))
        for site, spread in here.items():
            spreads[site].append(spread)
        total += gram
        if halvings:
            measures.append(halvings.measure(gram, examples))
        on_progress(step + 1, steps)
    reliability = None
    if halvings:
        d_prime, cosine = torch.tensor(measures, dtype=torch.float64).unbind(1)
        reliability = SplitHalfReliability(banks[0].timesteps, d_prime, cosine, *halvings.measure(total, examples))
    return FoundContrast(
        {site: torch.stack(rows).reshape(steps, *shapes[site]) for site, rows in deltas.items()},
        {site: torch.tensor(rows) for site, rows in spreads.items()},
        reliability,
    )


def _read(
    banks: Sequence[Bank], site: str, step: int, weights: Tensor, executor: Executor | None
) -> tuple[Tensor, Tensor]:
    """The weighted sum `(d,)` float32 and the Gram matrix `(n, n)` float64 of the centred rows at one site and step."""
    slices, sums = list(max(banks, key=len).slices(site)), []

    def rows_of(found: tuple[Tensor, Tensor]) -> Tensor:
        sums.append(found[0])
        return found[1]

    pieces = pieces_of(len(weights), slices, executor)
    parts = in_order(partial(_read_rows, banks, site, step, weights), pieces, executor)
    gram = gathered(len(weights), pieces, map(rows_of, parts))
    return torch.cat(sums), mirrored(gram)


def _read_rows(banks: Sequence[Bank], site: str, step: int, weights: Tensor, piece: Piece) -> tuple[Tensor, Tensor]:
    """The weighted sum, where the block is the last one, and rows of the Gram matrix up to its last column."""
    gram, sums = empty_rows(piece.block), [torch.empty(0)]
    for channels in piece.slices:
        h = torch.cat([bank.h(site, step, channels).flatten(1) for bank in banks])
        h = h - h.mean(0)  # the weights sum to 0, so it changes rounding alone
        if piece.block[1] == len(h):
            sums.append(weights.float() @ h)
        add_rows(gram, h, piece.block)
    return torch.cat(sums), gram
