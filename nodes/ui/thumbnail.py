"""A picture small enough to live in a file's header."""

import base64
from io import BytesIO

from PIL import Image
from torch import Tensor

from .sheets import to_pil

LONGEST_SIDE, QUALITY = 512, 85


def data_uri(image: Tensor) -> str:
    """A ComfyUI IMAGE `(n, height, width, 3)` as a JPEG's data URI: the first, at most 512 pixels long or high."""
    picture = to_pil(image)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    file = BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
