"""Whether what a workflow saved is pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SMALLEST = 64
"""Pixels a side: a demo face."""


def require_drawn(pictures: Sequence[Path]) -> None:
    assert pictures
    for picture in pictures:
        with Image.open(picture) as image:
            assert min(image.size) >= SMALLEST, picture
            assert np.asarray(image.convert("L")).std() > 10, f"{picture} is of one colour"
