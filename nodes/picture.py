"""Labelled grids of pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

PAPER, INK, FAINT, ACCENT = "#ffffff", "#1b1b1f", "#6b6b76", "#0072b2"


def grid(
    pictures: Tensor,
    *,
    title: str,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    highlighted: Sequence[int] = (),
    size: int = 192,
) -> Tensor:
    """A sheet `(1, height, width, 3)` of `pictures (rows, columns, height, width, 3)` in 0..1, labelled.

    `size` is the longer side of each picture in pixels; `highlighted` columns are framed.
    """
    rows, columns, height, width, _ = pictures.shape
    scale = size / max(height, width)
    width, height = round(width * scale), round(height * scale)
    gap, text = max(2, size // 32), max(12, size // 9)
    font, heading = ImageFont.load_default(text), ImageFont.load_default(round(text * 1.25))
    left = gap * 4 + round(max(font.getlength(label) for label in row_labels))
    top = gap * 5 + round(text * 2.8)
    sheet = Image.new("RGB", (left + columns * (width + gap) + gap * 2, top + rows * (height + gap) + gap * 2), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((left, gap * 2), title, INK, heading)
    for column, label in enumerate(column_labels):
        x = left + column * (width + gap)
        colour = ACCENT if column in highlighted else INK
        pen.text((x + width / 2, top - gap * 2), label, colour, font, anchor="ms")
        if column in highlighted:
            frame = (x - gap, top - gap, x + width + gap - 1, top + rows * (height + gap) - 1)
            pen.rectangle(frame, outline=ACCENT, width=max(1, gap // 2))
    for row, label in enumerate(row_labels):
        y = top + row * (height + gap)
        pen.text((left - gap * 2, y + height / 2), label, FAINT, font, anchor="rm")
        for column in range(columns):
            picture = _resized(pictures[row, column], (width, height))
            sheet.paste(picture, (left + column * (width + gap), y))
    return torch.from_numpy(np.asarray(sheet).copy()).unsqueeze(0) / 255


def _resized(picture: Tensor, size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(picture.clamp(0, 1).mul(255).round().byte().cpu().numpy())
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
