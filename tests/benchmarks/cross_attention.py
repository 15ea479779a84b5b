"""Steering of cross-attention in the manner of CASteer (Gaintseva et al., arXiv 2503.09630).

The mean difference, between prompts with and without a word, of every cross-attention's output, averaged over the
places of the picture, is added to it on the conditional side; the norm of each token is kept.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

Key = tuple
"""Layer and timestep."""


def _key(extra: dict) -> Key:
    return (*extra["block"], extra["block_index"], float(extra["sigmas"][0]))


def _conditional(n: Tensor, extra: dict) -> list[tuple[Tensor, bool]]:
    sides = extra["cond_or_uncond"]
    return [(chunk, side == 0) for chunk, side in zip(n.chunk(len(sides)), sides, strict=True)]


class Means:
    """Reads the outputs' means over places and pictures."""

    def __init__(self):
        self.sums: dict[Key, Tensor] = {}
        self.counts: dict[Key, int] = {}

    def __call__(self, n: Tensor, extra: dict) -> Tensor:
        for chunk, conditional in _conditional(n, extra):
            if conditional:
                key = _key(extra)
                self.sums[key] = self.sums.get(key, 0) + chunk.mean(1).sum(0)
                self.counts[key] = self.counts.get(key, 0) + len(chunk)
        return n

    def means(self) -> dict[Key, Tensor]:
        return {key: total / self.counts[key] for key, total in self.sums.items()}


def difference(plus: Means, minus: Means) -> dict[Key, Tensor]:
    others = minus.means()
    return {key: mean - others[key] for key, mean in plus.means().items()}


class Steering:
    """Adds `strength` times the vectors."""

    def __init__(self, vectors: Mapping[Key, Tensor], strength: float):
        self.vectors, self.strength = vectors, strength

    def __call__(self, n: Tensor, extra: dict) -> Tensor:
        vector = self.strength * self.vectors[_key(extra)]
        return torch.cat(
            [_steered(chunk, vector) if conditional else chunk for chunk, conditional in _conditional(n, extra)]
        )


def _steered(n: Tensor, vector: Tensor) -> Tensor:
    moved = n + vector
    return moved * (n.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True))
