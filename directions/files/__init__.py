"""Files: directions saved and loaded, names, and what is read with as little trust as a stranger's file deserves."""

from .direction_file import load_direction, save_direction
from .names import safe_path
from .untrusted import MAX_ELEMENTS, brief, checked_source, opened, parsed, stays_inside
from .writing import write_whole

__all__ = [
    "MAX_ELEMENTS",
    "brief",
    "checked_source",
    "load_direction",
    "opened",
    "parsed",
    "safe_path",
    "save_direction",
    "stays_inside",
    "write_whole",
]
