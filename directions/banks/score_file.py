"""Scores from a CSV or JSON file that a person or another program wrote."""

import csv
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from ..files import brief
from .bank import Bank
from .scores import Scores

MAX_BYTES = 16 << 20
"""A hundred thousand pictures with twenty columns. JSON takes up to 25 times as much memory."""
MAX_COLUMNS = 100_000
SEED = "seed"


def read_scores(path: Path, bank: Bank) -> Scores:
    """The scores in `path` for pictures of `bank`; pictures that it does not name are left unscored.

    CSV has a header, JSON is a list of objects; both name the picture by its `seed` and hold a number for each column.
    `ValueError` for any other file.
    """
    try:
        if not path.is_file():
            raise ValueError(f"{path.name} is no file: got a folder or nothing, wanted a CSV or JSON file.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(
                f"{path.name} is too large for scores: got {size} bytes, wanted at most {MAX_BYTES}. Leave out columns "
                "or digits that aren't needed."
            )
        return _scores(path, _read_json(path) if path.suffix.lower() == ".json" else _read_csv(path), bank)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError, csv.Error) as error:
        raise ValueError(f"Can't read {path.name}: {brief(error)}. Save it again as UTF-8 CSV or JSON.") from error


def _scores(path: Path, rows: Iterator[Mapping[str, object]], bank: Bank) -> Scores:
    columns: tuple[str, ...] = ()
    known = set(bank.seeds)
    seeds: dict[int, None] = {}
    values = array("d")
    for number, row in enumerate(rows, 1):
        columns = columns or tuple(name for name in row if name != SEED)
        if SEED not in row or row.keys() != {SEED, *columns} or not 0 < len(columns) <= MAX_COLUMNS:
            raise ValueError(
                f"Row {number} of {path.name} has the columns {brief(', '.join(map(str, row)))}: wanted seed and "
                f"{brief(', '.join(columns)) or 'at least one score'}, the same in each row."
            )
        seed = _seed(row[SEED], number, path)
        if seed not in known:
            raise ValueError(
                f"{path.name} scores pictures that are not in the bank: got seed {seed}, wanted seeds between "
                f"{min(known)} and {max(known)}. Raise count in Sample Bank or remove those rows."
            )
        if seed in seeds:
            raise ValueError(f"Row {number} of {path.name}: the scores hold seed {seed} twice. Remove one of them.")
        seeds[seed] = None
        values.extend(_number(row[column], column, number, path) for column in columns)
    if not seeds:
        raise ValueError(f"{path.name} holds no scores: got no rows, wanted one for each scored picture.")
    table = torch.frombuffer(values, dtype=torch.float64).reshape(len(seeds), len(columns)).float()
    return Scores(columns, table, tuple(seeds), bank.recipe, f"file {path.name}")


def _read_csv(path: Path) -> Iterator[Mapping[str, object]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        fields = reader.fieldnames or ()
        if len(fields) > MAX_COLUMNS + 1:
            raise ValueError(
                f"{path.name} has too many columns: got {len(fields)}, wanted seed and at most {MAX_COLUMNS} scores. "
                "Leave out those that aren't needed."
            )
        names = Counter(name.strip() for name in fields)
        twice = [name for name, times in names.items() if times > 1]
        if twice:
            raise ValueError(f'{path.name} has the column "{brief(twice[0])}" twice: rename or remove one of them.')
        yield from ({(key or "").strip(): value for key, value in row.items()} for row in reader)


def _read_json(path: Path) -> Iterator[Mapping[str, object]]:
    rows = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_object, parse_int=_whole)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f'{path.name} must be a list of objects such as {{"seed": 7, "smile": 0.8}}.')
    return iter(rows)


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f'A row has the column "{brief(twice)}" twice: rename or remove one of them.')
    return entries


def _whole(digits: str) -> int | str:
    """The number; as it stands if it is longer than any seed or score, for Python refuses thousands of digits."""
    return int(digits) if len(digits) < 500 else digits


def _seed(value: object, number: int, path: Path) -> int:
    text = str(value).strip() if isinstance(value, int | str) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 20) or isinstance(value, bool):
        raise ValueError(f"Row {number} of {path.name}: got seed {brief(repr(value))}, wanted a whole number.")
    return int(text)


def _number(value: object, column: str, number: int, path: Path) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        return float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f'Row {number} of {path.name}: got {brief(repr(value))} in column "{brief(column)}", wanted a number. '
            "Leave the row out if you can't tell."
        ) from error
