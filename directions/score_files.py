"""Scores from a CSV or JSON file that a person or another program wrote."""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from .bank import Bank
from .scores import Scores

MAX_BYTES = 64 << 20
"""A million pictures with ten columns."""
SEED = "seed"


def read_scores(path: Path, bank: Bank) -> Scores:
    """The scores in `path` for pictures of `bank`; pictures that it does not name are left unscored.

    CSV has a header, JSON is a list of objects; both name the picture by its `seed` and hold a number for each column.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name} is too large for scores: got {path.stat().st_size} bytes, at most {MAX_BYTES}.")
    try:
        rows = _read_json(path) if path.suffix.lower() == ".json" else _read_csv(path)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, csv.Error) as error:
        raise ValueError(f"Can't read {path.name}: {error}. Save it again as UTF-8 CSV or JSON.") from error
    if not rows:
        raise ValueError(f"{path.name} holds no scores: got no rows, wanted one for each scored picture.")
    columns = tuple(name for name in rows[0] if name != SEED)
    for number, row in enumerate(rows, 1):
        if SEED not in row or row.keys() != rows[0].keys() or not columns:
            raise ValueError(
                f"Row {number} of {path.name} has the columns {', '.join(map(str, row))}: wanted seed and "
                f"{', '.join(columns) or 'at least one score'}, the same in each row."
            )
    seeds = tuple(_seed(row[SEED], number, path) for number, row in enumerate(rows, 1))
    values = [[_number(row[c], c, number, path) for c in columns] for number, row in enumerate(rows, 1)]
    unknown = sorted(set(seeds) - set(bank.seeds))
    if unknown:
        raise ValueError(
            f"{path.name} scores pictures that are not in the bank: got seed {unknown[0]}, wanted seeds between "
            f"{min(bank.seeds)} and {max(bank.seeds)}. Raise count in Sample Bank or remove those rows."
        )
    return Scores(columns, torch.tensor(values), seeds, bank.recipe, f"file {path.name}")


def _read_csv(path: Path) -> Sequence[Mapping[str, object]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        names = Counter(name.strip() for name in reader.fieldnames or ())
        twice = [name for name, times in names.items() if times > 1]
        if twice:
            raise ValueError(f'{path.name} has the column "{twice[0]}" twice: rename or remove one of them.')
        return [{(key or "").strip(): value for key, value in row.items()} for row in reader]


def _read_json(path: Path) -> Sequence[Mapping[str, object]]:
    rows = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f'{path.name} must be a list of objects such as {{"seed": 7, "smile": 0.8}}.')
    return rows


def _seed(value: object, number: int, path: Path) -> int:
    text = str(value).strip()
    if not text.isascii() or not text.isdigit() or isinstance(value, bool):
        raise ValueError(f"Row {number} of {path.name}: got seed {value!r}, wanted a whole number.")
    return int(text)


def _number(value: object, column: str, number: int, path: Path) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        return float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f'Row {number} of {path.name}: got {value!r} in column "{column}", wanted a number. Leave the row out if '
            "you can't tell."
        ) from error
