"""Pieces of work on a bank, done here or by any standard `concurrent.futures.Executor`, such as a cluster's."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")

AT_ONCE = 4
"""Pieces that are given away at a time, so that no more results than these wait in memory."""


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
