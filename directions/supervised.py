"""Directions from examples and from scores: somebody says which pictures have it.

Haas et al. (FG 2024, arXiv 2303.11073), section V, Eq. 11: the mean of h with an attribute minus the mean without.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from .bank import Bank
from .direction import Direction
from .scores import Scores
from .weighted import Examples, Progress, Trust, weighted_sum

Method = Literal["regression", "examples"]
FEW = 20
"""Examples on a side below which halves of them are too small to judge each other."""


@dataclass(frozen=True, eq=False)
class Found:
    """A direction, and how far its own examples say that it can be trusted."""

    direction: Direction
    trust: Trust | None
    """None where there are fewer than four examples on a side."""
    examples: tuple[int, int]
    """How many pictures with and without."""

    def summary(self) -> str:
        """One line for a person."""
        known = self.trust.summary() if self.trust else "too few examples to tell how steady it is: give four or more"
        doubt = "; with so few examples these are mere hints: look at a sweep" if min(self.examples) < FEW else ""
        return f'"{self.direction.name}" from {self.examples[0]} with and {self.examples[1]} without: {known}{doubt}.'


def find_from_examples(
    positive: Bank,
    negative: Bank,
    *,
    name: str,
    paired: bool = False,
    on_progress: Progress = lambda done, total: None,
) -> Found:
    """Mean of `positive` minus mean of `negative`; strength 1 is the whole way from the one to the other.

    `paired` says that picture i of both banks belongs together, such as one seed under two prompts: it changes the
    trust, not the direction.
    """
    _require_comparable(positive, negative, paired)
    p, n = len(positive), len(positive) + len(negative)
    examples = Examples(torch.arange(p), torch.arange(p, n), paired)
    delta, trust = weighted_sum([positive, negative], examples.difference, examples, on_progress=on_progress)
    recipe = {
        "find": "examples",
        "paired": paired,
        **{
            side: {"seeds": list(bank.seeds), "bank": json.loads(bank.recipe)}
            for side, bank in (("positive", positive), ("negative", negative))
        },
    }
    unit = "from the mean of the pictures without it to the mean of those with it"
    return _found(positive, delta, trust, examples, recipe, name=name, method="mean difference of examples", unit=unit)


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
) -> Found:
    """What the pictures of `bank` with a high score in `column` have in their h that those with a low score lack.

    "examples" is the mean of the `examples` highest minus that of as many lowest; 0 takes all, split half-way between
    the lowest and the highest score. Where `others` are named, as many on each side lie above as below their mean.
    "regression" fits h by the scores of `column` and `others` in all pictures, with a penalty of `ridge` times their
    number, and takes what changes with `column` while `others` stay. Strength 1 is the same for both: the way from the
    mean of the lowest to the mean of the highest.
    """
    scored = scores.scored(bank)
    target = scores.varied_column(column)
    rest = [scores.varied_column(other) for other in others if other != column]
    sides = _extremes(column, target, examples, rest if method == "examples" else [])
    weigh = sides.difference if method == "examples" else _Regression.of(target, rest, sides, ridge).weigh
    delta, trust = weighted_sum([scored], weigh, sides, on_progress=on_progress)
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
        delta,
        trust,
        sides,
        recipe,
        name=name or column,
        method="regression on scores" if by_regression else "mean difference of scored pictures",
        unit=f"from the mean of the {len(sides.negative)} lowest scores to that of the {len(sides.positive)} highest",
    )


def _found(bank: Bank, delta: Tensor, trust: Trust | None, examples: Examples, recipe: object, **words: str) -> Found:
    direction = Direction(delta=delta, timesteps=bank.timesteps, source=bank.source, recipe=json.dumps(recipe), **words)
    return Found(direction, trust, (len(examples.positive), len(examples.negative)))


def _require_comparable(positive: Bank, negative: Bank, paired: bool) -> None:
    positive.source.require_match(negative.source)
    for what, got, wanted in (
        ("size of h", negative.shape, positive.shape),
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


def _extremes(column: str, target: Tensor, examples: int, others: Sequence[Tensor]) -> Examples:
    """The `examples` highest and lowest rows, the same number of each cell above and below the means of `others`."""
    if examples == 0:
        if others:
            raise ValueError("To balance on other columns say how many examples to take: got 0, which takes all.")
        target = target.double()  # half-way between two float32 neighbours is neither
        middle = (target.min() + target.max()) / 2
        return Examples((target > middle).nonzero().squeeze(1), (target <= middle).nonzero().squeeze(1))
    cells = 1 << len(others)
    above = [other > other.mean() for other in others]
    highest, lowest = [], []
    for cell in product((True, False), repeat=len(others)):
        inside = torch.ones(len(target), dtype=torch.bool)
        for side, mask in zip(cell, above, strict=True):
            inside &= mask == side
        rows = inside.nonzero().squeeze(1)
        wanted = examples // cells
        if not 1 <= wanted <= len(rows) // 2:
            raise ValueError(
                f'Too few pictures for {examples} examples of "{column}" on each side: got {len(rows)} '
                + (f"in one of the {cells} groups to balance, " if others else "")
                + f"wanted {2 * max(wanted, 1)}. Ask for fewer examples"
                + (", balance on fewer columns" if others else "")
                + " or sample a larger bank."
            )
        ranked = rows[target[rows].argsort(stable=True)]
        lowest.append(ranked[:wanted])
        highest.append(ranked[-wanted:])
    return Examples(torch.cat(highest), torch.cat(lowest))


@dataclass(frozen=True, eq=False)
class _Regression:
    """Ridge regression of h on standardised scores, the first of them the one that is asked about."""

    scores: Tensor
    """`(n, m)` float64."""
    gap: float
    """From the lowest to the highest examples' mean score."""
    ridge: float

    @classmethod
    def of(cls, target: Tensor, others: Sequence[Tensor], sides: Examples, ridge: float) -> "_Regression":
        if not ridge >= 0:
            raise ValueError(f"ridge must not be negative: got {ridge}, wanted 0 or more, 0.01 usually.")
        gap = target[sides.positive].double().mean() - target[sides.negative].double().mean()
        return cls(torch.stack([target, *others], 1).double(), gap.item(), ridge)

    def weigh(self, shown: Tensor) -> Tensor:
        x = self.scores[shown] - self.scores[shown].mean(0)
        scale = x.square().mean(0).sqrt()
        scale = torch.where(scale > 0, scale, 1.0)  # a column may be constant in a half
        x = x / scale
        penalty = self.ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.zeros(len(shown), dtype=torch.float64)
        weights[shown] = torch.linalg.lstsq(x.T @ x + penalty, x.T).solution[0] * (self.gap / scale[0])
        return weights
