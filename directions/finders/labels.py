"""From scores to contrasts: which pictures count as examples, and regression of h on the scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ..measures import Examples


def extremes(column: str, target: Tensor, examples: int, others: Sequence[Tensor]) -> Examples:
    """The `examples` highest and lowest rows, the same number of each cell above and below the means of `others`."""
    if examples == 0:
        if others:
            raise ValueError("To balance on other columns say how many examples to take: got 0, which takes all.")
        target = target.double()  # half-way between two float32 neighbours is neither
        middle = (target.min() + target.max()) / 2
        return Examples((target > middle).nonzero().squeeze(1), (target <= middle).nonzero().squeeze(1))
    cells = 1 << len(others)
    above = [other > other.mean() for other in others]
    highest, lowest = [], []
    for cell in product((True, False), repeat=len(others)):
        inside = torch.ones(len(target), dtype=torch.bool)
        for side, mask in zip(cell, above, strict=True):
            inside &= mask == side
        rows = inside.nonzero().squeeze(1)
        wanted = examples // cells
        if not 1 <= wanted <= len(rows) // 2:
            raise ValueError(
                f'Too few pictures for {examples} examples of "{column}" on each side: got {len(rows)} '
                + (f"in one of the {cells} groups to balance, " if others else "")
                + f"wanted {2 * max(wanted, 1)}. Ask for fewer examples"
                + (", balance on fewer columns" if others else "")
                + " or sample a larger bank."
            )
        ranked = rows[target[rows].argsort(stable=True)]
        lowest.append(ranked[:wanted])
        highest.append(ranked[-wanted:])
    return Examples(torch.cat(highest), torch.cat(lowest))


@dataclass(frozen=True, eq=False)
class Regression:
    """Ridge regression of h on standardised scores, the first of them the one that is asked about."""

    scores: Tensor
    """`(n, m)` float64."""
    gap: float
    """From the lowest to the highest examples' mean score."""
    ridge: float

    @classmethod
    def of(cls, target: Tensor, others: Sequence[Tensor], sides: Examples, ridge: float) -> "Regression":
        if not ridge >= 0:
            raise ValueError(f"ridge must not be negative: got {ridge}, wanted 0 or more, 0.01 usually.")
        gap = target[sides.positive].double().mean() - target[sides.negative].double().mean()
        return cls(torch.stack([target, *others], 1).double(), gap.item(), ridge)

    def contrast(self, shown: Tensor) -> Tensor:
        x = self.scores[shown] - self.scores[shown].mean(0)
        scale = x.square().mean(0).sqrt()
        scale = torch.where(scale > 0, scale, 1.0)  # a column may be constant in a half
        x = x / scale
        penalty = self.ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.zeros(len(shown), dtype=torch.float64)
        weights[shown] = torch.linalg.lstsq(x.T @ x + penalty, x.T).solution[0] * (self.gap / scale[0])
        return weights
