"""Procedural cartoon faces whose attributes are known: the ground truth of the demo model.

Two correlations are built in on purpose, so that disentangling has something to do:
glasses go with age, and beards go with short hair.
"""

import colorsys
from dataclasses import astuple, dataclass, fields

import numpy as np
from PIL import Image, ImageDraw

SIZE = 64
OVERSAMPLING = 4
ZOOM = 1.27
"""Tight crop: mouth and glasses must span several of the 8x8 bottleneck's cells to be carried by them."""

Colour = tuple[int, int, int]

HAIR_COLOURS: list[Colour] = [(28, 22, 20), (92, 54, 28), (170, 92, 34), (226, 182, 92)]
GREY = (205, 205, 208)
LIGHT_SKIN, DARK_SKIN = (247, 213, 184), (112, 70, 46)
LIP, TEETH, FRAME = (150, 52, 52), (250, 245, 240), (18, 18, 22)
EYE_WHITE, PUPIL = (250, 250, 250), (30, 30, 45)


@dataclass(frozen=True)
class Face:
    """The ten attributes of one face."""

    yaw: float
    """-1 looks to the left edge of the picture, 1 to the right."""
    smile: float
    """-1 is a frown, 1 an open smile."""
    age: float
    """0 is young, 1 is old: wrinkles from .35, grey hair from .45."""
    glasses: float
    """0 or 1."""
    beard: float
    """0 or 1."""
    hair_length: float
    """0 ends at the ears, 1 at the shoulders."""
    hair_hue: float
    """0 is black, 1 is blond."""
    skin: float
    """0 is light, 1 is dark."""
    background: float
    """Hue of the background, 0 to 1."""
    eyes: float
    """How far the eyes are open, .35 to 1."""


ATTRIBUTES = tuple(field.name for field in fields(Face))


LOWEST_FACE = Face(-1, -1, 0, 0, 0, 0, 0, 0, 0, 0.35)
"""The lower end of every attribute; the upper end is 1."""


def sample_face(rng: np.random.Generator) -> Face:
    """One face of the data's distribution."""
    yaw = rng.uniform(-1, 1)
    smile = float(np.clip(rng.normal(0.15, 0.6), -1, 1))
    age = rng.uniform(0, 1)
    glasses = float(rng.random() < 0.12 + 0.6 * age)
    hair_length = rng.uniform(0, 1)
    beard = float(rng.random() < (0.55 if hair_length < 0.45 else 0.06))
    hair_hue, skin, background = rng.uniform(0, 1, 3)
    return Face(yaw, smile, age, glasses, beard, hair_length, hair_hue, skin, background, rng.uniform(0.35, 1))


def render(face: Face, size: int = SIZE) -> Image.Image:
    """The picture of a face, `size` pixels square, anti-aliased."""
    return _Drawing(face).draw().resize((size, size), Image.Resampling.LANCZOS)


def render_batch(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`n` random faces: pictures `(n, 64, 64, 3)` uint8 and attributes `(n, 10)` float32."""
    rng = np.random.default_rng(seed)
    faces = [sample_face(rng) for _ in range(n)]
    pictures = np.stack([np.asarray(render(face)) for face in faces])
    return pictures, np.array([astuple(face) for face in faces], np.float32)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (int(255 * c) for c in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return red, green, blue


def _mix(a: Colour, b: Colour, weight: float) -> Colour:
    red, green, blue = (int(x + (y - x) * weight) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _hair_colour(hue: float, age: float) -> Colour:
    position = hue * (len(HAIR_COLOURS) - 1)
    i = min(int(position), len(HAIR_COLOURS) - 2)
    colour = _mix(HAIR_COLOURS[i], HAIR_COLOURS[i + 1], position - i)
    return _mix(colour, GREY, max(0.0, (age - 0.45) / 0.55) ** 0.8)


class _Drawing:
    """One face on one canvas, painted back to front, in units of a 64-pixel picture before the zoom."""

    cx, cy = 32.0, 33.0
    rx, ry = 15.5, 19.0

    def __init__(self, face: Face):
        self.face = face
        self.skin = _mix(LIGHT_SKIN, DARK_SKIN, face.skin)
        self.shade = _mix(self.skin, (40, 15, 10), 0.35)
        self.hair = _hair_colour(face.hair_hue, face.age)
        self.turn = 6.0 * face.yaw
        self.mouth = (self.cx + 0.9 * self.turn, self.cy + 9.5)
        self.eye_line = self.cy - 3
        self.scale = ZOOM * OVERSAMPLING
        self.canvas = Image.new("RGB", (SIZE * OVERSAMPLING,) * 2, _hsv(face.background * 0.8, 0.38, 0.86))
        self.pen = ImageDraw.Draw(self.canvas)

    def draw(self) -> Image.Image:
        self._hair_behind()
        self._body()
        self._head()
        if self.face.beard > 0.5:
            self._beard()
        self._fringe()
        self._wrinkles()
        self._eyes()
        self._nose()
        self._mouth()
        if self.face.glasses > 0.5:
            self._glasses()
        return self.canvas

    def _hair_behind(self) -> None:
        top, sway = self.cy - self.ry - 4.5, -0.8 * self.turn
        bottom = top + 26 + 26 * self.face.hair_length
        self._ellipse(self.cx - self.rx - 3.5 + sway, top, self.cx + self.rx + 3.5 + sway, bottom, self.hair)

    def _body(self) -> None:
        shirt = _hsv(self.face.background * 0.8 + 0.5, 0.5, 0.55)
        self._ellipse(10, 54, 54, 84, shirt)
        self.pen.rectangle(self._box(self.cx - 6, 46, self.cx + 6, 58), fill=self.shade)

    def _head(self) -> None:
        for side in (-1, 1):
            x = self.cx + side * (self.rx - 0.2) - 0.35 * self.turn
            width = 3.2 * (1 - 0.8 * max(0.0, side * self.face.yaw))
            self._ellipse(x - width, self.cy - 4, x + width, self.cy + 4, self.shade)
        self._ellipse(self.cx - self.rx, self.cy - self.ry, self.cx + self.rx, self.cy + self.ry, self.skin)

    def _beard(self) -> None:
        left, right = self.cx - self.rx + 0.3, self.cx + self.rx - 0.3
        self.pen.chord(self._box(left, self.cy - self.ry, right, self.cy + self.ry), 12, 168, fill=self.hair)
        middle = self.cx + 0.5 * self.turn
        self._ellipse(middle - 10.5, self.cy - 6, middle + 10.5, self.cy + 9, self.skin)
        x, y = self.mouth
        self._ellipse(x - 9, y - 5, x + 9, y + 6, self.hair)

    def _fringe(self) -> None:
        tilt = 10 * self.face.yaw
        box = self._box(self.cx - self.rx - 1, self.cy - self.ry - 2.5, self.cx + self.rx + 1, self.cy + self.ry - 2)
        self.pen.pieslice(box, 192 + tilt, 348 + tilt, fill=self.hair)
        middle, half = self.cx + 0.5 * self.turn, self.rx - 2.2
        self._ellipse(middle - half, self.cy - 11.5, middle + half, self.cy + 6, self.skin)

    def _wrinkles(self) -> None:
        depth = max(0.0, (self.face.age - 0.35) / 0.65)
        if depth == 0:
            return
        colour = _mix(self.skin, self.shade, 0.85 * depth)
        middle = self.cx + self.turn
        for y in (self.cy - 9.8, self.cy - 7.8):
            self._line([(middle - 6, y), (middle + 6, y)], colour, 0.7)
        x, y = self.mouth
        for side in (-1, 1):
            self._line([(x + side * 8.0, y - 6.5), (x + side * 9.8, y - 1)], colour, 0.9)

    def _eye_x(self, side: int) -> float:
        return self.cx + self.turn + side * 6.3 * (1 - 0.18 * abs(self.face.yaw))

    def _eyes(self) -> None:
        y, opening = self.eye_line, 2.5 * self.face.eyes
        for side in (-1, 1):
            x, gaze = self._eye_x(side), 0.8 * self.face.yaw
            self._ellipse(x - 3, y - opening, x + 3, y + opening, EYE_WHITE)
            pupil = min(1.5, opening)
            self._ellipse(x - 1.4 + gaze, y - pupil, x + 1.4 + gaze, y + pupil, PUPIL)
            brow = _mix(self.hair, (20, 15, 12), 0.35)
            self._line([(x - 3.2, y - 4.6), (x + 3.2, y - 4.6)], brow, 1.2)

    def _nose(self) -> None:
        x, y = self.cx + 1.35 * self.turn, self.eye_line
        side = 1 if self.face.yaw >= 0 else -1
        self._line([(x - 0.6 * side, y + 2), (x + 1.5 * side, y + 5.4), (x - 0.5, y + 5.8)], self.shade, 1.1)

    def _mouth(self) -> None:
        smile, (x, y) = self.face.smile, self.mouth
        across = np.linspace(-1, 1, 17)
        curve = [(x + 7.8 * u, y + smile * (5.0 * (1 - u * u) - 2.5)) for u in across]
        if smile > 0.25:
            self.pen.polygon([self._at(*point) for point in curve], fill=TEETH)
            self._line([curve[0], curve[-1]], LIP, 1.0)
        self._line(curve, LIP, 1.9)

    def _glasses(self) -> None:
        y, ends = self.eye_line, self.cx + self.turn
        for side in (-1, 1):
            x = self._eye_x(side)
            frame = self._box(x - 4.8, y - 4.4, x + 4.8, y + 4.4)
            self.pen.ellipse(frame, outline=FRAME, width=int(1.5 * self.scale))
            self._line([(x + side * 4.7, y - 0.5), (self.cx + side * self.rx, y - 1)], FRAME, 1.3)
        self._line([(ends - 1.8, y - 0.6), (ends + 1.8, y - 0.6)], FRAME, 1.5)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        centre = SIZE / 2 * OVERSAMPLING
        return centre + (x - self.cx) * self.scale, centre + (y - self.cy) * self.scale

    def _box(self, left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
        return [self._at(left, top), self._at(right, bottom)]

    def _ellipse(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.pen.ellipse(self._box(left, top, right, bottom), fill=colour)

    def _line(self, points: list[tuple[float, float]], colour: Colour, width: float) -> None:
        pixels = max(1, int(width * self.scale))
        self.pen.line([self._at(*point) for point in points], fill=colour, width=pixels, joint="curve")
