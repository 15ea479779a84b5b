"""Gram matrices of trajectories, summed up over slices of channels, here or piece by piece by an executor.

Wherever it is done, the same rows are multiplied at a time, so the sums are the same.
"""

from collections.abc import Iterable
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..banks import Bank, in_order

ROWS = 256
"""Of a Gram matrix computed at a time: half of it is never computed, and no float32 copy of it is ever held."""
PIECE_ELEMENTS = 1 << 24
"""Numbers in the result of a piece of work: 128 MiB of float64."""
RUNS = 4
"""Into how many runs the slices of channels are dealt: a slice is read once for each block of rows."""

Block = tuple[int, int]
"""First and last rows of a part of an n x n matrix."""


class Piece(NamedTuple):
    """What one worker multiplies: the rows of a block, summed over some slices of channels."""

    block: Block
    slices: list[slice]


def pieces_of(rows: int, slices: list[slice], executor: Executor | None) -> list[Piece]:
    """The work on a Gram matrix, block by block: one piece without an executor."""
    if executor is None:
        return [Piece((0, rows), slices)]
    run = -(-len(slices) // RUNS)
    return [Piece(block, slices[at : at + run]) for block in row_blocks(rows) for at in range(0, len(slices), run)]


def row_blocks(rows: int) -> list[Block]:
    """Blocks of rows that have about `PIECE_ELEMENTS` numbers, up to their last row's diagonal."""
    edges = [0]
    while edges[-1] < rows:
        first = edges[-1]
        last = (first + (first * first + 4 * PIECE_ELEMENTS) ** 0.5) / 2  # (last - first) * last = PIECE_ELEMENTS
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


def gathered(rows: int, pieces: list[Piece], parts: Iterable[Tensor]) -> Tensor:
    """`(rows, rows)`, on and below the diagonal, of what the pieces came to."""
    if len(pieces) == 1:
        (whole,) = parts
        return whole
    gram = empty_rows((0, rows))
    for ((first, last), _), part in zip(pieces, parts, strict=True):
        gram[first:last, :last] += part
    return gram


def mirrored(gram: Tensor) -> Tensor:
    """The same matrix, with what lies above the diagonal too."""
    for first in range(ROWS, len(gram), ROWS):
        here = slice(first, first + ROWS)
        gram[:first, here] = gram[here, :first].T
    return gram


def centred_gram(bank: Bank, site: str, step: int, executor: Executor | None) -> Tensor:
    """`(n, n)` float64: inner products of the centred trajectories there, on and below the diagonal."""
    pieces = pieces_of(len(bank), list(bank.slices(site)), executor)
    return gathered(len(bank), pieces, in_order(partial(_centred_rows, bank, site, step), pieces, executor))


def project(bank: Bank, step: int, weights: Tensor, factors: dict[str, float], executor: Executor | None) -> Tensor:
    """`weights (n, k)` transposed times the centred trajectories at one step: `(k, d)` float32, all sites in one
    measure."""
    slices = [(site, channels) for site in bank.shapes for channels in bank.slices(site)]
    parts = in_order(partial(_projected, bank, step, weights.T.float()), slices, executor)
    return torch.cat([factors[site] * part for (site, _), part in zip(slices, parts, strict=True)], dim=1)


def _centred(bank: Bank, site: str, step: int, channels: slice) -> Tensor:
    h = bank.h(site, step, channels).flatten(1)
    return h - h.mean(0)


def _centred_rows(bank: Bank, site: str, step: int, piece: Piece) -> Tensor:
    gram = empty_rows(piece.block)
    for channels in piece.slices:
        add_rows(gram, _centred(bank, site, step, channels), piece.block)
    return gram


def _projected(bank: Bank, step: int, weights: Tensor, piece: tuple[str, slice]) -> Tensor:
    site, channels = piece
    return weights @ _centred(bank, site, step, channels)
