"""What is read for the nodes' lists is kept while it has not changed: schemas are asked for all the time."""

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

COARSEST = 2_000_000_000
"""Nanoseconds, FAT's steps of time: what has changed within the last one may change again and show the same time."""


def kept_while_unchanged(read: Callable[[Path], Result]) -> Callable[[Path], Result]:
    """`read` of a file or a folder, done again only when that has changed. `OSError` where nothing lies."""
    kept: dict[Path, tuple[tuple[int, ...], Result]] = {}

    @wraps(read)
    def current(path: Path) -> Result:
        status = path.stat()
        version = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        known, result = kept.get(path, (None, None))
        if known == version:
            return result
        settled = time.time_ns() - status.st_mtime_ns > COARSEST
        result = read(path)
        if settled:
            kept[path] = version, result
        return result

    return current
