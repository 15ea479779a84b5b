"""Recipes of combinations: one flat sum, however it was put together."""

import json
from collections.abc import Iterable, Iterator

LARGEST_FACTOR = 1e9
"""Of a recipe's own factors that are multiplied: a stranger's file may claim any number."""


def weighted_sum(parts: Iterable[tuple[float, str]]) -> str:
    """The recipe of the sum of `parts`, each a factor and a recipe; sums and multiples in them become its terms."""
    terms = [term for factor, recipe in parts for term in _terms(float(factor), json.loads(recipe))]
    entries = [recipe if factor == 1 else {"times": [factor, recipe]} for factor, recipe in terms]
    return json.dumps(entries[0] if len(entries) == 1 else {"sum": entries})


def _terms(factor: float, recipe: object) -> Iterator[tuple[float, object]]:
    match recipe:
        case {"sum": [*parts], **others} if parts and not others:
            for part in parts:
                yield from _terms(factor, part)
        case {"times": [int() | float() as inner, part], **others} if abs(inner) <= LARGEST_FACTOR and not others:
            yield from _terms(factor * inner, part)
        case _:
            yield factor, recipe
