"""Draw docs/icon.png and docs/banner.png for the registry: `python -m tools.artwork`.

The mark is a UNet seen from the side, its bottleneck lit as a slider between the two ends of a direction. The face on
the banner is that of the first seed, swept by the real ComfyUI.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tools.comfyui import ROOT
from tools.gallery import MINUS, PLUS, Strip, sweep
from tools.server import Server

NIGHT, BONE, DUSK, SILVER = "#15171c", "#f1f1f4", "#4b4e5a", "#a9abb6"
ICON, BANNER = 400, (1260, 540)
FINER = 4
"""Everything is drawn this much larger and then reduced, for smooth edges."""

NAME, LINE = "h-space Directions", "Semantic sliders for diffusion UNets in ComfyUI: find, save, stack."
DIRECTION, STRENGTHS = "demo smile", (-2, -1, 0, 1, 2)


def ramp(size: tuple[int, int]) -> Image.Image:
    """From the colour of minus on the left to that of plus on the right."""
    ends = Image.new("RGB", (2, 1), MINUS)
    ends.putpixel((1, 0), Image.new("RGB", (1, 1), PLUS).getpixel((0, 0)))
    return ends.resize(size, Image.Resampling.BILINEAR, box=(0.5, 0, 1.5, 1))


def mark(size: int) -> Image.Image:
    """The mark on nothing, square."""
    unit = size * FINER / 100
    canvas, lit = Image.new("RGBA", (size * FINER, size * FINER)), Image.new("L", (size * FINER, size * FINER))
    pen, light = ImageDraw.Draw(canvas), ImageDraw.Draw(lit)

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return left * unit, top * unit, right * unit, bottom * unit

    for y in (28, 43):  # skip connections
        pen.rounded_rectangle(box(24, y - 1.5, 76, y + 1.5), 1.5 * unit, DUSK)
    for x in (24, 76):  # encoder and decoder
        pen.rounded_rectangle(box(x - 7, 15, x + 7, 55), 7 * unit, BONE)
        pen.rectangle(box(x - 7, 30, x + 7, 55), BONE)
    light.rounded_rectangle(box(17, 20, 83, 86), 24 * unit, 255)  # the bend of the U: the bottleneck
    light.rounded_rectangle(box(31, 10, 69, 68), 11 * unit, 0)
    light.rectangle(box(0, 0, 100, 58), 0)
    colours = Image.new("RGBA", canvas.size)
    colours.paste(ramp((round(66 * unit), canvas.height)), (round(17 * unit), 0))
    glow = Image.composite(colours, Image.new("RGBA", canvas.size), lit).filter(ImageFilter.GaussianBlur(5 * unit))
    canvas = Image.alpha_composite(glow, canvas)
    canvas.paste(colours, mask=lit)
    ImageDraw.Draw(canvas).ellipse(box(52, 70.5, 65, 83.5), "#ffffff")
    return canvas.resize((size, size), Image.Resampling.LANCZOS)


def tile(size: int) -> Image.Image:
    """The mark on a dark square with round corners."""
    shape = Image.new("L", (size * FINER, size * FINER))
    ImageDraw.Draw(shape).rounded_rectangle((0, 0, *(side - 1 for side in shape.size)), size * FINER * 0.2, 255)
    picture = Image.new("RGBA", (size, size), NIGHT)
    picture.alpha_composite(mark(size))
    picture.putalpha(shape.resize((size, size), Image.Resampling.LANCZOS))
    return picture


def banner(faces: Strip) -> Image.Image:
    """Mark, name and a line above the faces, with the slider's rail below them."""
    picture = Image.new("RGBA", BANNER, NIGHT)
    pen = ImageDraw.Draw(picture)
    side, gap, left, top = 212, 20, 60, 224
    picture.alpha_composite(mark(176), (left - 30, 22))
    pen.text((left + 152, 98), NAME, BONE, ImageFont.load_default(74), anchor="lm")
    pen.text((left + 155, 162), LINE, SILVER, ImageFont.load_default(30), anchor="lm")
    corners = Image.new("L", (side, side))
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, side - 1, side - 1), 12, 255)
    rail = left + side // 2, top + side + 30, left + 4 * (side + gap) + side // 2, top + side + 36
    picture.paste(ramp((rail[2] - rail[0], rail[3] - rail[1])), rail[:2])
    for place, (face, strength) in enumerate(zip(faces, STRENGTHS, strict=True)):
        x = left + place * (side + gap)
        picture.paste(face.resize((side, side), Image.Resampling.LANCZOS), (x, top), corners)
        at, colour = x + side // 2, PLUS if strength > 0 else MINUS if strength < 0 else SILVER
        pen.ellipse((at - 9, rail[1] + 3 - 9, at + 9, rail[1] + 3 + 9), colour, NIGHT, 3)
        pen.text((at, rail[3] + 34), f"{strength:+g}" if strength else "0", SILVER, ImageFont.load_default(24), "ms")
    return picture.convert("RGB")


def main() -> int:
    docs = ROOT / "docs"
    tile(ICON).save(docs / "icon.png", optimize=True)
    with tempfile.TemporaryDirectory() as base, Server(Path(base) / "output", base=Path(base)) as server:
        banner(sweep(server, DIRECTION, STRENGTHS, 1)[0]).save(docs / "banner.png", optimize=True)
    for path in (docs / "icon.png", docs / "banner.png"):
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
