"""Labelled grids and sheets of pictures, each pixel as it is: matplotlib, which draws the plots, resamples them."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import pad

PAPER, INK, FAINT, ACCENT, OPPOSITE = "#ffffff", "#1b1b1f", "#6b6b76", "#0072b2", "#d55e00"
"""The last two are told apart by colour-blind people too (Okabe and Ito)."""

SHEET_COLUMNS = 10


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
    return to_image(sheet)


def strength_labels(strengths: Sequence[float]) -> list[str]:
    return [f"{strength:+g}" if strength else "0" for strength in strengths]


def contact_sheet(pictures: Tensor, labels: Sequence[str], marks: Sequence[bool | None], size: int) -> Tensor:
    """A sheet `(1, height, width, 3)` of `pictures (n, height, width, 3)` in 0..1, ten in a row, a label under each.

    Pictures marked True are framed in blue with a plus, those marked False in orange with a minus.
    """
    height, width = pictures.shape[1:3]
    scale = size / max(height, width)
    width, height = round(width * scale), round(height * scale)
    gap, text = max(4, size // 20), max(12, size // 8)
    font = ImageFont.load_default(text)
    columns = min(len(pictures), SHEET_COLUMNS)
    cell = width + 2 * gap, height + round(text * 1.4) + gap
    sheet = Image.new("RGB", (columns * cell[0] + gap, -(-len(pictures) // columns) * cell[1] + 2 * gap), PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, (picture, label, mark) in enumerate(zip(pictures, labels, marks, strict=True)):
        x, y = gap + i % columns * cell[0] + gap // 2, gap + i // columns * cell[1] + gap // 2
        colour = FAINT if mark is None else ACCENT if mark else OPPOSITE
        if mark is not None:
            frame = max(2, gap // 2)
            pen.rectangle((x - frame, y - frame, x + width + frame - 1, y + height + frame - 1), fill=colour)
            label += " +" if mark else " -"
        sheet.paste(_resized(picture, (width, height)), (x, y))
        pen.text((x + width / 2, y + height + gap / 2), label, colour, font, anchor="ma")
    return to_image(sheet)


def difference_maps(edited: Tensor, plain: Tensor) -> Tensor:
    """`(rows, height, width, 3)`: where the pictures of each row of `edited (rows, columns, ...)` differ from `plain`,

    which is `(rows or 1, 1, ...)`.

    The largest change of the column that changes most, in whole steps of 8 bits: less than that no picture shows. Full
    blue is the largest of all rows, white none, and half blue a quarter, so that weak rows show too.
    """
    change = (edited - plain).abs().mean(-1, keepdim=True).amax(1).mul(255).round()
    full = torch.tensor(ImageColor.getrgb(ACCENT)) / 255
    return 1 - (change / change.max().clamp(min=1)).sqrt() * (1 - full)


def strip(pictures: Tensor, size: int) -> Tensor:
    """`pictures (n, height, width, 3)` side by side, `(1, height, width, 3)`; the longer side of each is `size`."""
    height, width = pictures.shape[1:3]
    scale = size / max(height, width)
    small = [to_image(_resized(each, (round(width * scale), round(height * scale)))) for each in pictures]
    return torch.cat(small, 2)


def below(upper: Tensor, lower: Tensor) -> Tensor:
    """Two sheets `(1, height, width, 3)`, one below the other, the narrower one with paper on its right."""
    width = max(upper.shape[2], lower.shape[2])
    return torch.cat([pad(each, (0, 0, 0, width - each.shape[2]), value=1.0) for each in (upper, lower)], 1)


def to_image(sheet: Image.Image) -> Tensor:
    """A ComfyUI IMAGE `(1, height, width, 3)` in 0..1."""
    return torch.from_numpy(np.asarray(sheet).copy()).unsqueeze(0) / 255


def to_pil(sheet: Tensor) -> Image.Image:
    """The first of a ComfyUI IMAGE `(n, height, width, 3)` in 0..1."""
    return Image.fromarray(sheet[0].clamp(0, 1).mul(255).round().byte().cpu().numpy())


def _resized(picture: Tensor, size: tuple[int, int]) -> Image.Image:
    image = to_pil(picture[None])
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
