"""Lists that people type into text fields, and tables that they take away as text."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

CHOICE = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d{1,9})(?:\s*-\s*(\d{1,9}))?")


def parse_strengths(text: str) -> list[float]:
    """The finite numbers of a list such as "-1, 0, 1"."""
    return _parse_floats(text, "strengths", "-2, 0, 2")


def one_each(strengths: Sequence[float], count: int) -> list[float]:
    """`count` strengths: those given, or one for all. `ValueError` for another number of them."""
    if len(strengths) not in (1, count):
        raise ValueError(f"Give one strength for all or one for each: got {len(strengths)}, wanted 1 or {count}.")
    return list(strengths) * (count if len(strengths) == 1 else 1)


def parse_percents(text: str) -> list[float]:
    """The numbers of a list such as "0.2, 0.5". `ValueError` unless all are 0 to 1."""
    percents = _parse_floats(text, "percents", "0.2, 0.5")
    if not all(0 <= percent <= 1 for percent in percents):
        raise ValueError(f"Percents are numbers from 0 to 1: got {text!r}, wanted such as 0.2, 0.5.")
    return percents


def _parse_floats(text: str, what: str, example: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise ValueError(f'Can\'t read the {what}: got {text!r}, wanted numbers with commas, such as "{example}".')
    return numbers


class WordScene(NamedTuple):
    """A prompt with the first of "{smiling|frowning}", with the second, and with neither."""

    having: str
    lacking: str
    neutral: str


def parse_scenes(text: str) -> list[WordScene]:
    """What each line says. `ValueError` where there is none, or one without such a choice."""
    scenes = [_scene(line.strip()) for line in text.splitlines() if line.strip()]
    if not scenes:
        raise ValueError('There is no scene: got an empty text, wanted such as "a {smiling|frowning} person".')
    return scenes


class LessonPrompts(NamedTuple):
    """What a picture of a lesson is told: its scene as it is, with the word, with its opposite.

    `kept` has the scene with one side of each thing that is to stay, then with the other.
    """

    neutral: str
    having: str
    lacking: str
    kept: tuple[str, ...]


def lesson_prompts(scenes: Sequence[WordScene], kept: Sequence[WordScene], number: int) -> LessonPrompts:
    """What a picture is told by its number: one of the scenes, the word with either side of all that is kept behind it.

    Two that follow each other are told the same. From pair to pair the scenes take turns, and from turn to turn the
    sides of what is kept, so that every combination comes as often as any other.
    """
    turn, place = divmod(number // 2, len(scenes))
    scene, told = scenes[place], lambda *parts: ", ".join(filter(None, parts))
    sides = [(each.having, each.lacking)[turn >> bit & 1] for bit, each in enumerate(kept)]
    both = tuple(told(scene.neutral, side) for each in kept for side in (each.having, each.lacking))
    return LessonPrompts(scene.neutral, told(scene.having, *sides), told(scene.lacking, *sides), both)


def _scene(line: str) -> WordScene:
    choices = [choice.split("|") for choice in CHOICE.findall(line)]
    if not choices or any(len(choice) != 2 for choice in choices) or set("{}") & set(CHOICE.sub("", line)):
        raise ValueError(
            f'Can\'t read the scene: got "{line}", wanted two choices in braces, as in "a {{smiling|frowning}} person".'
        )
    return WordScene(_chosen(line, 0), _chosen(line, 1), " ".join(CHOICE.sub("", line).split()))


def _chosen(line: str, side: int) -> str:
    return CHOICE.sub(lambda found: found[1].split("|")[side].strip(), line)


def parse_names(text: str) -> list[str]:
    """The names of a list such as "age, hair length"."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_settings(text: str, ranges: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The values of a list such as "age = 0.8, smile = 1". `ValueError` unless all are known and in their range."""
    found = {}
    for part in parse_names(text):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in ranges:
            raise ValueError(f'got "{part}", wanted such as "age = 0.8" for one of {", ".join(ranges)}.')
        lowest, highest = ranges[name]
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        if not lowest <= found[name] <= highest:
            raise ValueError(f'got "{part}", wanted a number from {lowest:g} to {highest:g} for {name}.')
    return found


def parse_numbers(text: str, highest: int) -> list[int]:
    """The numbers of a list such as "3, 8, 12-15", each once, ascending. `ValueError` unless all are 1 to `highest`."""
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        match = RANGE.fullmatch(part)
        if not match:
            raise ValueError(f'Can\'t read the numbers: got "{part}", wanted numbers and ranges such as "3, 8, 12-15".')
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= highest:
            raise ValueError(f'"{part}" is not on the sheet: the pictures are numbered 1 to {highest}.')
        found.update(range(first, last + 1))
    return sorted(found)


def csv_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lines with commas, the first of them naming the columns; numbers with four digits after the point."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{entry:.4f}" if isinstance(entry, float) else entry for entry in row] for row in rows)
    return text.getvalue()


def parse_windows(text: str) -> list[tuple[float, float]]:
    """The spans of a list such as "0-1, 0-0.5". `ValueError` unless each goes up within 0 to 1."""
    windows = []
    for part in parse_names(text):
        match = re.fullmatch(r"([\d.]+)\s*-\s*([\d.]+)", part)
        try:
            start, end = map(float, match.groups()) if match else (1.0, 0.0)
        except ValueError:
            start, end = 1.0, 0.0
        if not 0 <= start < end <= 1:
            raise ValueError(f'Can\'t read the windows: got "{part}", wanted two numbers from 0 to 1 such as "0-0.5".')
        windows.append((start, end))
    if not windows:
        raise ValueError(f'There is no window: got {text!r}, wanted such as "0-1, 0-0.5".')
    return windows


def outline(value: object, depth: int = 0) -> list[str]:
    """JSON as lines for people: a line for each entry, those inside it indented."""
    if not isinstance(value, dict | list):
        return ["  " * depth + str(value)]
    lines = []
    for name, entry in value.items() if isinstance(value, dict) else enumerate(value, 1):
        label = f"{'  ' * depth}{str(name).replace('_', ' ')}: "
        if isinstance(entry, dict) or isinstance(entry, list) and any(isinstance(each, dict | list) for each in entry):
            lines += [label.rstrip(), *outline(entry, depth + 1)]
        else:
            lines.append(label + (", ".join(map(str, entry)) if isinstance(entry, list) else str(entry)))
    return lines
