"""How benchmarks keep their figures: JSON files in docs/, part by part."""

import json
from pathlib import Path

import numpy as np


def known(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def remember(path: Path, part: str, result: dict, digits: int = 3) -> None:
    """Put one part into the file and leave the others."""
    path.write_text(json.dumps(known(path) | {part: rounded(result, digits)}, indent=1) + "\n")


def rounded(value, digits: int = 3):
    """`value` with so many significant digits."""
    match value:
        case dict():
            return {str(key): rounded(entry, digits) for key, entry in value.items()}
        case list() | tuple():
            return [rounded(entry, digits) for entry in value]
        case float() | np.floating():
            return float(f"{value:.{digits}g}")
    return value
