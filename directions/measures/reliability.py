"""Split-half reliability: how far a direction holds on examples that it was not made from.

A direction is a contrast: weights `(n,)` of the trajectories, which sum to 0. With the Gram matrix G of the centred
trajectories every direction a, b of other weights is known without another look at h: <a, b> = a' G b, and trajectory i
lies at (G a)_i along a.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SPLITS = 8
"""Random halvings that are averaged over."""
FEWEST = 4
"""Examples needed on each side, so that each half can say how its pictures spread."""

Contrast = Callable[[Tensor], Tensor]
"""Weights `(n,)` float64, summing to 0, from those rows alone that a mask `(n,)` shows."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows with the attribute and rows without; of a pair, both stand at the same place."""

    positive: Tensor
    negative: Tensor
    paired: bool = False

    def difference(self, shown: Tensor) -> Tensor:
        """Weights of the mean of the shown positives minus the mean of the shown negatives."""
        weights = torch.zeros(len(shown), dtype=torch.float64)
        for rows, sign in ((self.positive, 1.0), (self.negative, -1.0)):
            rows = rows[shown[rows]]
            weights[rows] += sign / len(rows)
        return weights

    def half(self, n: int, generator: torch.Generator) -> Tensor:
        """A random half of n rows as a mask `(n,)`: half of the positives, of the negatives and of the rest."""
        mask = torch.zeros(n, dtype=torch.bool)
        if self.paired:
            pairs = torch.randperm(len(self.positive), generator=generator)[: len(self.positive) // 2]
            mask[self.positive[pairs]] = mask[self.negative[pairs]] = True
            return mask
        rest = torch.ones(n, dtype=torch.bool)
        rest[self.positive] = rest[self.negative] = False
        for group in (self.positive, self.negative, rest.nonzero().squeeze(1)):
            mask[group[torch.randperm(len(group), generator=generator)[: len(group) // 2]]] = True
        return mask


@dataclass(frozen=True, eq=False)
class SplitHalfReliability:
    """What halves of the examples, each alone, say about a direction: on pictures that it was not made from."""

    timesteps: Tensor
    """`(t,)` float32, descending."""
    d_prime: Tensor
    """`(t,)` float64: how far apart the other half's examples lie along the direction, in standard deviations."""
    cosine: Tensor
    """`(t,)` float64: cosine of the two halves' directions."""
    d_prime_overall: float
    """The same for the whole trajectory at once."""
    cosine_overall: float

    def curves(self) -> dict[str, Tensor]:
        """`(t,)` each, by what it is."""
        return {"held-out d'": self.d_prime, "split-half cosine": self.cosine}

    def summary(self) -> str:
        return (
            f"held-out d' {self.d_prime_overall:.2f} (1 is useful, 2 tells pictures well apart), "
            f"split-half cosine {self.cosine_overall:.2f} (1: more examples would not change it)"
        )


@dataclass(frozen=True, eq=False)
class SplitHalfCosine:
    """How much alike the directions of two halves of the pairs are, where the pairs themselves are not kept."""

    timesteps: Tensor
    """`(t,)` float32, descending."""
    cosine: Tensor
    """`(t,)` float64."""
    cosine_overall: float
    """The same for the whole trajectory at once."""

    def curves(self) -> dict[str, Tensor]:
        return {"split-half cosine": self.cosine}

    def summary(self) -> str:
        return f"split-half cosine {self.cosine_overall:.2f} (1: more pairs would not change it)"


@dataclass(frozen=True, eq=False)
class Halvings:
    """Masks of one half `(s, n)`, and the weights `(s, n)` of each half's own direction."""

    first: Tensor
    first_weights: Tensor
    second_weights: Tensor

    @classmethod
    def of(cls, n: int, contrast: Contrast, examples: Examples) -> "Halvings | None":
        """None where the examples are too few for halves to be measured."""
        if min(len(examples.positive), len(examples.negative)) < FEWEST:
            return None
        generator = torch.Generator().manual_seed(0)
        masks = [examples.half(n, generator) for _ in range(SPLITS)]
        return cls(
            torch.stack(masks),
            torch.stack([contrast(mask) for mask in masks]),
            torch.stack([contrast(~mask) for mask in masks]),
        )

    def measure(self, gram: Tensor, examples: Examples) -> tuple[float, float]:
        """Held-out d' and split-half cosine, averaged over the halvings."""
        along_first, along_second = self.first_weights @ gram, self.second_weights @ gram
        products = (along_first * self.second_weights).sum(1)
        squares = (along_first * self.first_weights).sum(1) * (along_second * self.second_weights).sum(1)
        cosines = products / squares.sqrt().clamp(min=torch.finfo(torch.float64).tiny)
        distances = [
            _d_prime(
                along[examples.positive[unseen[examples.positive]]], along[examples.negative[unseen[examples.negative]]]
            )
            for first, one, other in zip(self.first, along_first, along_second, strict=True)
            for along, unseen in ((one, ~first), (other, first))
        ]
        return torch.stack(distances).mean().item(), cosines.mean().item()


def _d_prime(positive: Tensor, negative: Tensor) -> Tensor:
    """Difference of means in units of the pooled standard deviation."""
    spread = ((positive.var() + negative.var()) / 2).sqrt()
    return (positive.mean() - negative.mean()) / spread.clamp(min=torch.finfo(torch.float64).tiny)
