"""Gram matrices of trajectories, summed up over slices of channels, here or piece by piece by an executor.

Wherever it is done, the same rows are multiplied at a time, so the sums are the same.
"""

from collections.abc import Iterable
from concurrent.futures import Executor
from functools import partial

import torch
from torch import Tensor

from ..banks import Bank, in_order

ROWS = 256
"""Of a Gram matrix computed at a time: half of it is never computed, and no float32 copy of it is ever held."""
PIECE_ELEMENTS = 1 << 23
"""Numbers in the result of a piece of work: 64 MiB of float64."""

Block = tuple[int, int]
"""First and last rows of a part of an n x n matrix."""


def row_blocks(rows: int, executor: Executor | None) -> list[Block]:
    """The parts that are pieces of work: one without an executor.

    Up to its last row's diagonal a part has about `PIECE_ELEMENTS` numbers, or a fourth of all.
    """
    if executor is None:
        return [(0, rows)]
    size, edges = min(PIECE_ELEMENTS, rows * rows // 4), [0]
    while edges[-1] < rows:
        first = edges[-1]
        last = (first + (first * first + 4 * size) ** 0.5) / 2  # (last - first) * last = size
        edges.append(min(rows, max(first + ROWS, ROWS * round(last / ROWS))))
    return list(zip(edges, edges[1:], strict=False))


def empty_rows(block: Block) -> Tensor:
    """Room for the rows of a block up to its last row's diagonal, `(rows, last)` float64, all zero."""
    first, last = block
    return torch.zeros(last - first, last, dtype=torch.float64)


def add_rows(gram: Tensor, h: Tensor, block: Block) -> None:
    """Add to the rows of a block those of h h^T, of an h `(n, d)`, on and below the diagonal."""
    start, end = block
    for first in range(start, end, ROWS):
        last = min(first + ROWS, end)
        gram[first - start : last - start, :last] += h[first:last] @ h[:last].T


def gathered(blocks: list[Block], parts: Iterable[Tensor]) -> Tensor:
    """`(n, n)`, on and below the diagonal, of the rows of its blocks."""
    if len(blocks) == 1:
        (whole,) = parts
        return whole
    gram = empty_rows((0, blocks[-1][1]))
    for (first, last), part in zip(blocks, parts, strict=True):
        gram[first:last, :last] = part
    return gram


def mirrored(gram: Tensor) -> Tensor:
    """The same matrix, with what lies above the diagonal too."""
    for first in range(ROWS, len(gram), ROWS):
        here = slice(first, first + ROWS)
        gram[:first, here] = gram[here, :first].T
    return gram


def centred_gram(bank: Bank, site: str, step: int, executor: Executor | None) -> Tensor:
    """`(n, n)` float64: inner products of the centred trajectories there, on and below the diagonal."""
    blocks = row_blocks(len(bank), executor)
    return gathered(blocks, in_order(partial(_centred_rows, bank, site, step), blocks, executor))


def project(bank: Bank, step: int, weights: Tensor, factors: dict[str, float], executor: Executor | None) -> Tensor:
    """`weights (n, k)` transposed times the centred trajectories at one step: `(k, d)` float32, all sites in one
    measure."""
    slices = [(site, channels) for site in bank.shapes for channels in bank.slices(site)]
    parts = in_order(partial(_projected, bank, step, weights.T.float()), slices, executor)
    return torch.cat([factors[site] * part for (site, _), part in zip(slices, parts, strict=True)], dim=1)


def _centred(bank: Bank, site: str, step: int, channels: slice) -> Tensor:
    h = bank.h(site, step, channels).flatten(1)
    return h - h.mean(0)


def _centred_rows(bank: Bank, site: str, step: int, block: Block) -> Tensor:
    gram = empty_rows(block)
    for channels in bank.slices(site):
        add_rows(gram, _centred(bank, site, step, channels), block)
    return gram


def _projected(bank: Bank, step: int, weights: Tensor, piece: tuple[str, slice]) -> Tensor:
    site, channels = piece
    return weights @ _centred(bank, site, step, channels)
