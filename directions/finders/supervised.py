"""Directions from examples and from scores: somebody says which pictures have it.

Haas et al. (FG 2024, arXiv 2303.11073), section V, Eq. 11: the mean of h with an attribute minus the mean without.
"""

import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Literal

import torch

from ..banks import Bank, Scores
from ..direction import Direction
from ..measures import Examples, SplitHalfCosine, SplitHalfReliability
from .contrast import FoundContrast, Progress, find_contrast
from .labels import Regression, extremes

Method = Literal["regression", "examples"]
FEW = 20
"""Examples on a side below which halves of them are too small to judge each other."""


@dataclass(frozen=True, eq=False)
class FoundDirection:
    """A direction, and how far it holds on examples that it was not made from."""

    direction: Direction
    reliability: SplitHalfReliability | SplitHalfCosine | None
    """None where there are fewer than four examples on a side."""
    examples: tuple[int, int]
    """How many pictures with and without."""

    def summary(self) -> str:
        """One line for a person."""
        too_few = "too few examples to tell how steady it is: give four or more"
        known = self.reliability.summary() if self.reliability else too_few
        doubt = "; with so few examples these are mere hints: look at a sweep" if min(self.examples) < FEW else ""
        return f'"{self.direction.name}" from {self.examples[0]} with and {self.examples[1]} without: {known}{doubt}.'


def find_from_examples(
    positive: Bank,
    negative: Bank,
    *,
    name: str,
    paired: bool = False,
    on_progress: Progress = lambda done, total: None,
    executor: Executor | None = None,
) -> FoundDirection:
    """Mean of `positive` minus mean of `negative`; strength 1 is the whole way from the one to the other.

    `paired` says that picture i of both banks belongs together, such as one seed under two prompts: it changes the
    reliability, not the direction. For `executor` see `find_contrast`.
    """
    _require_comparable(positive, negative, paired)
    p, n = len(positive), len(positive) + len(negative)
    examples = Examples(torch.arange(p), torch.arange(p, n), paired)
    contrast = find_contrast(
        [positive, negative], examples.difference, examples, on_progress=on_progress, executor=executor
    )
    recipe = {
        "find": "examples",
        "paired": paired,
        **{
            side: {"seeds": list(bank.seeds), "bank": json.loads(bank.recipe)}
            for side, bank in (("positive", positive), ("negative", negative))
        },
    }
    unit = "from the mean of the pictures without it to the mean of those with it"
    return _found(positive, contrast, examples, recipe, name=name, method="mean difference of examples", unit=unit)


def find_from_scores(
    bank: Bank,
    scores: Scores,
    column: str,
    *,
    name: str = "",
    method: Method = "regression",
    examples: int = 50,
    others: Sequence[str] = (),
    ridge: float = 0.01,
    on_progress: Progress = lambda done, total: None,
    executor: Executor | None = None,
) -> FoundDirection:
    """What the pictures of `bank` with a high score in `column` have in their h that those with a low score lack.

    "examples" is the mean of the `examples` highest minus that of as many lowest; 0 takes all, split half-way between
    the lowest and the highest score. Where `others` are named, as many on each side lie above as below their mean.
    "regression" fits h by the scores of `column` and `others` in all pictures, with a penalty of `ridge` times their
    number, and takes what changes with `column` while `others` stay. Strength 1 is the same for both: the way from the
    mean of the lowest to the mean of the highest. For `executor` see `find_contrast`.
    """
    scored = scores.scored(bank)
    target = scores.varied_column(column)
    rest = [scores.varied_column(other) for other in others if other != column]
    sides = extremes(column, target, examples, rest if method == "examples" else [])
    contrast = sides.difference if method == "examples" else Regression.of(target, rest, sides, ridge).contrast
    found = find_contrast([scored], contrast, sides, on_progress=on_progress, executor=executor)
    recipe = {
        "find": f"scores, {method}",
        "column": column,
        "scores": scores.origin,
        "others": list(others),
        "examples": [len(sides.positive), len(sides.negative)],
        **({"ridge": ridge} if method == "regression" else {}),
        "seeds": [min(scores.seeds), max(scores.seeds)],
        "bank": json.loads(bank.recipe),
    }
    by_regression = method == "regression"
    return _found(
        bank,
        found,
        sides,
        recipe,
        name=name or column,
        method="regression on scores" if by_regression else "mean difference of scored pictures",
        unit=f"from the mean of the {len(sides.negative)} lowest scores to that of the {len(sides.positive)} highest",
    )


def _found(
    bank: Bank,
    found: FoundContrast,
    examples: Examples,
    recipe: object,
    *,
    name: str,
    method: str,
    unit: str,
) -> FoundDirection:
    direction = Direction(
        deltas=found.deltas,
        timesteps=bank.timesteps,
        source=bank.source,
        recipe=json.dumps(recipe),
        spreads=found.spreads,
        name=name,
        method=method,
        unit=unit,
    )
    return FoundDirection(direction, found.reliability, (len(examples.positive), len(examples.negative)))


def _require_comparable(positive: Bank, negative: Bank, paired: bool) -> None:
    positive.source.require_match(negative.source)
    for what, got, wanted in (
        ("sizes of h", negative.shapes, positive.shapes),
        ("timesteps", negative.timesteps.tolist(), positive.timesteps.tolist()),
    ):
        if got != wanted:
            raise ValueError(
                f"The two banks can't be compared: got {what} {got}, wanted {wanted}. Sample both with the same image "
                "size, sampler and schedule."
            )
    if paired and len(positive) != len(negative):
        raise ValueError(
            f"Pairs need as many pictures on both sides: got {len(positive)} with and {len(negative)} without. Turn "
            "paired off, or sample the same seeds for both."
        )
    both = set(positive.seeds) & set(negative.seeds) if positive.recipe == negative.recipe else set()
    if both:
        raise ValueError(
            f"The picture of seed {min(both)} is an example of both: got it with and without, wanted one of them."
        )
