"""Draw two pictures of README.md, through the real ComfyUI: `python -m tools.gallery`.

docs/sweep.webp shows three directions at strengths that go from one end to the other and back, docs/gallery.jpg every
starter direction. The faces are those of the first seeds, none left out.
"""

import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tools import prompts
from tools.comfyui import ROOT
from tools.server import Server

PAPER, INK, FAINT, PLUS, MINUS = "#ffffff", "#1b1b1f", "#6b6b76", "#0072b2", "#d55e00"
"""As in nodes/ui/sheets.py; the last two are told apart by colour-blind people too (Okabe and Ito)."""
RAIL = "#d5d5da"

Strip = list[Image.Image]

MOVES = {"demo smile": "smile", "demo old": "age", "demo glasses": "glasses"}
"""Directions of the animation, with what is written below them."""
FURTHEST, FRAMES, SECONDS = 1.0, 64, 4.8
"""Strength at either end; pictures and time from 0 to one end, to the other and back."""
FACES, FACE_SIZE = 4, 192

STARTERS = {
    "smile": 1.0,
    "old": 0.5,
    "glasses": 1.5,
    "beard": 2.0,
    "pose": -1.5,
    "age": 1.5,
    "hair length": 2.0,
    "background": 2.0,
}
"""Columns of the sheet, with strengths chosen by eye."""
SHEET_FACES, SHEET_SIZE = 6, 112


def sweep(server: Server, direction: str, strengths: Sequence[float], faces: int) -> list[Strip]:
    """For each of the first `faces` seeds its pictures at `strengths`."""
    nodes = {
        **prompts.faces("euler", 20),
        "direction": ("HSpaceLoadDirection", {"direction": f"{direction}.safetensors"}),
        "sweep": prompts.sweep("direction", strengths, rows=faces),
        "save": ("SaveImage", {"images": ["sweep", 1], "filename_prefix": direction}),
    }
    prompt = prompts.prompt(nodes)
    saved = server.pictures({"save": server.queue(prompt, workflow={})["save"]})
    pictures = [Image.open(path).convert("RGB") for path in saved]
    return [pictures[first : first + len(strengths)] for first in range(0, len(pictures), len(strengths))]


def frame(faces: Strip, name: str, strength: float) -> Image.Image:
    """The faces side by side, below them a slider with the direction's name and the strength."""
    gap, foot = 8, 60
    width = len(faces) * (FACE_SIZE + gap) - gap
    picture = Image.new("RGB", (width, FACE_SIZE + foot), PAPER)
    pen, font, small = ImageDraw.Draw(picture), ImageFont.load_default(26), ImageFont.load_default(18)
    for place, face in enumerate(faces):
        picture.paste(face.resize((FACE_SIZE, FACE_SIZE), Image.Resampling.LANCZOS), (place * (FACE_SIZE + gap), 0))
    middle, y, half = width / 2, FACE_SIZE + foot / 2 + 2, width / 4
    at, colour = middle + half * strength / FURTHEST, FAINT if strength == 0 else PLUS if strength > 0 else MINUS
    pen.text((middle - half - 64, y), name, INK, font, anchor="rm")
    pen.text((middle + half + 64, y), f"{strength:+.1f}" if strength else "0.0", colour, font, anchor="lm")
    pen.line((middle - half, y, middle + half, y), RAIL, 4)
    pen.line((middle, y - 9, middle, y + 9), FAINT, 2)
    pen.line((middle, y, at, y), colour, 6)
    pen.ellipse((at - 11, y - 11, at + 11, y + 11), colour)
    for side in (-1, 1):
        pen.text((middle + side * (half + 32), y), f"{side * FURTHEST:+g}", FAINT, small, anchor="mm")
    return picture


def animation(server: Server, path: Path) -> None:
    cycle = [round(FURTHEST * math.sin(2 * math.pi * step / FRAMES), 3) + 0.0 for step in range(FRAMES)]
    strengths = sorted(set(cycle))
    frames = []
    for direction, name in MOVES.items():
        rows = sweep(server, direction, strengths, FACES)
        drawn = {
            strength: frame([row[place] for row in rows], name, strength) for place, strength in enumerate(strengths)
        }
        frames += [drawn[strength] for strength in cycle]
    # It begins where the first edit is strongest, for whoever shows the first picture alone.
    frames = [*frames[FRAMES // 4 :], *frames[: FRAMES // 4]]
    step = round(1000 * SECONDS / FRAMES)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=step, loop=0, quality=72, method=6)


def sheet(server: Server, path: Path) -> None:
    """Faces down, starter directions across, the plain picture first."""
    columns: list[Strip] = []
    for name, strength in STARTERS.items():
        rows = sweep(server, f"demo {name}", [0, strength], SHEET_FACES)
        columns += [] if columns else [[row[0] for row in rows]]
        columns.append([row[1] for row in rows])
    heads = [("plain", "0"), *((name, f"{strength:+g}") for name, strength in STARTERS.items())]
    gap, head = 6, 54
    cell = SHEET_SIZE + gap
    picture = Image.new("RGB", (len(columns) * cell + gap, head + SHEET_FACES * cell + gap), PAPER)
    pen, font, small = ImageDraw.Draw(picture), ImageFont.load_default(19), ImageFont.load_default(17)
    for place, (faces, (name, strength)) in enumerate(zip(columns, heads, strict=True)):
        x = gap + place * cell
        pen.text((x + SHEET_SIZE / 2, 22), name, INK if place else PLUS, font, anchor="ms")
        pen.text((x + SHEET_SIZE / 2, 43), strength, MINUS if strength.startswith("-") else PLUS, small, anchor="ms")
        for row, face in enumerate(faces):
            picture.paste(face.resize((SHEET_SIZE, SHEET_SIZE), Image.Resampling.LANCZOS), (x, head + row * cell))
    pen.rectangle((gap // 2 - 1, head - gap // 2 - 1, gap + SHEET_SIZE + 2, picture.height - gap - 3), None, PLUS, 2)
    picture.save(path, quality=88)


def main() -> int:
    docs = ROOT / "docs"
    with tempfile.TemporaryDirectory() as base, Server(Path(base) / "output", base=Path(base)) as server:
        for draw, path in ((animation, docs / "sweep.webp"), (sheet, docs / "gallery.jpg")):
            draw(server, path)
            print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
