"""Work that kills its worker: in a module, for workers import it."""

import os
import signal
from pathlib import Path


def square(piece: tuple[str, int]) -> int:
    """Of the number; whoever is given 3 for the first time is killed."""
    folder, number = piece
    mark = Path(folder) / "killed"
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number
