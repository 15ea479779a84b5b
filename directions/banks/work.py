"""Pieces of work on a bank, done here or by any standard `concurrent.futures.Executor`, such as a cluster's."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

import torch
from torch import Tensor

Piece = TypeVar("Piece")
Result = TypeVar("Result")

AT_ONCE = 4
"""Pieces that are given away at a time, so that no more results than these wait in memory."""
ROWS = 256
"""Of a Gram matrix computed at a time, wherever that is done: so the sums are the same, and half is never computed."""
PIECE_ELEMENTS = 1 << 23
"""Numbers in the result of a piece: 64 MiB of float64."""


def in_order(
    function: Callable[[Piece], Result], pieces: Iterable[Piece], executor: Executor | None = None
) -> Iterator[Result]:
    """What `function` makes of each piece, in the order of the pieces. It is pickled, for an executor of processes."""
    if executor is None:
        yield from map(function, pieces)
        return
    waiting: deque[Future[Result]] = deque()
    try:
        for piece in pieces:
            waiting.append(executor.submit(function, piece))
            if len(waiting) == AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def row_blocks(rows: int, executor: Executor | None = None) -> list[tuple[int, int]]:
    """First and last rows of the parts of an n x n matrix that are pieces of work: one without an executor.

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


def gram_rows(h: Tensor, block: tuple[int, int]) -> Tensor:
    """The rows of a block of h h^T, of an h `(n, d)`, up to its last row's diagonal: `(rows, last)` float64."""
    start, end = block
    gram = torch.zeros(end - start, end, dtype=torch.float64)
    for first in range(start, end, ROWS):
        last = min(first + ROWS, end)
        gram[first - start : last - start, :last] = h[first:last] @ h[:last].T
    return gram


def mirrored(gram: Tensor) -> Tensor:
    """A Gram matrix of which `gram_rows` gave the rows, with what lies above the diagonal too."""
    for first in range(ROWS, len(gram), ROWS):
        here = slice(first, first + ROWS)
        gram[:first, here] = gram[here, :first].T
    return gram
