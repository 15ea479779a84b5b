"""A direction from pairs of trajectories of which nothing is kept but sums, however many and however large they are.

The mean difference of Haas et al. (FG 2024, arXiv 2303.11073), section V, Eq. 11, of one seed with and without.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..direction import LEAST_VARIANCE, Direction, Source, factors_of
from ..measures import SplitHalfCosine
from .supervised import FoundDirection

HALVES = 2


class PairSums:
    """What is known of the pairs so far, in two halves that judge each other."""

    def __init__(self, timesteps: Tensor, shapes: Mapping[str, tuple[int, int, int]]):
        steps = len(timesteps)
        self.timesteps = timesteps
        self.counts = torch.zeros(HALVES, dtype=torch.int64)
        self.differences = {site: torch.zeros(HALVES, steps, *shape) for site, shape in shapes.items()}
        """With minus without."""
        self.totals = {site: torch.zeros(steps, *shape) for site, shape in shapes.items()}
        """With plus without."""
        self.squares = {site: torch.zeros(steps, dtype=torch.float64) for site in shapes}

    def add(self, halves: Sequence[int], having: Mapping[str, Tensor], lacking: Mapping[str, Tensor]) -> None:
        """h `(n, t, c, h, w)` by site of pictures with what is looked for and without; 0 or 1 for each, its half."""
        self.counts += torch.bincount(torch.tensor(halves), minlength=HALVES)
        for site, difference in self.differences.items():
            for one, other, place in zip(having[site], lacking[site], halves, strict=True):
                one, other = one.float(), other.float()
                difference[place] += one - other
                self.totals[site] += one + other
                for h in (one, other):
                    self.squares[site] += h.flatten(1).double().square().sum(1)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be kept in a file."""
        named = {"difference": self.differences, "total": self.totals, "square": self.squares}
        parts = {f"{what}.{site}": tensor for what, each in named.items() for site, tensor in each.items()}
        return parts | {"counts": self.counts, "timesteps": self.timesteps}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "PairSums":
        """From what `tensors` gave. `KeyError` where something of it is missing."""
        shapes = {
            name.removeprefix("total."): (each.shape[1], each.shape[2], each.shape[3])
            for name, each in tensors.items()
            if name.startswith("total.")
        }
        sums = cls(tensors["timesteps"], shapes)
        sums.counts = tensors["counts"]
        for site in shapes:
            sums.differences[site], sums.totals[site] = tensors[f"difference.{site}"], tensors[f"total.{site}"]
            sums.squares[site] = tensors[f"square.{site}"]
        return sums

    def direction(self, *, name: str, source: Source, recipe: str) -> FoundDirection:
        """Strength 1 is the whole way from the mean without to the mean with. `ValueError` where there is no pair."""
        pairs = int(self.counts.sum())
        if not pairs:
            raise ValueError("There is no pair to find a direction in: got none, wanted one or more. Raise count.")
        found = Direction(
            deltas={site: each.sum(0) / pairs for site, each in self.differences.items()},
            timesteps=self.timesteps,
            name=name,
            method="mean difference of pairs",
            unit="from the mean of the pictures without it to the mean of those with it",
            source=source,
            recipe=recipe,
            spreads=self._spreads(),
        )
        return FoundDirection(found, self._reliability() if self.counts.min() > 0 else None, (pairs, pairs))

    def _spreads(self) -> dict[str, Tensor]:
        """`(t,)` by site: the root of the variance of h, summed over all its numbers."""
        pictures = 2 * int(self.counts.sum())
        spreads = {}
        for site, total in self.totals.items():
            about_zero = self.squares[site] - total.flatten(1).double().square().sum(1) / pictures
            spreads[site] = (about_zero / (pictures - 1)).clamp(min=LEAST_VARIANCE).sqrt().float()
        return spreads

    def _reliability(self) -> SplitHalfCosine:
        products = torch.zeros(3, len(self.timesteps), dtype=torch.float64)
        spreads = self._spreads()
        for step in range(len(self.timesteps)):
            factors = factors_of({site: float(each[step]) for site, each in spreads.items()})
            for site, factor in factors.items():
                first, second = self.differences[site][:, step].flatten(1).double() * factor
                products[:, step] += torch.stack([first @ second, first @ first, second @ second])
        return SplitHalfCosine(self.timesteps, _cosine(products), float(_cosine(products.sum(1))))


def _cosine(products: Tensor) -> Tensor:
    across, first, second = products
    norms = (first * second).sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    return torch.div(across, norms)
