"""What moves an attribute of the prompted faces, and the judge of it: shared by the tables of docs/prompted.md."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from prompted import prompts
from prompted_model import PromptedModel
from prompted_page import keep
from torch import Tensor

WORDS = {
    "smile": ("smiling", "frowning"),
    "glasses": ("glasses", "no glasses"),
    "age": ("old", "young"),
    "beard": ("beard", "no beard"),
    "hair_length": ("long hair", "short hair"),
}
SEEDS, STEPS = 48, 10
FOUND_IN, FOUND_AT = 96, 10
"""Pictures, or pairs, that each method is found in, and their steps."""
SCENES = 8
LESSONS, ROUNDS = 24, 3
"""Scenes that a slider is learnt in, eight pictures a round."""


@dataclass(frozen=True)
class Dial:
    """A method that has been found: how it draws at a strength, and what it took."""

    strengths: Sequence[float]
    draw: Callable[[float], Tensor]
    """Pictures of the fresh seeds."""
    seconds: float = 0
    size: int = 0
    """Bytes of what is kept; 0 where it is words."""


class Bench:
    """The model, fresh seeds, and what they are without an edit."""

    def __init__(self, faces: PromptedModel, folder):
        self.faces, self.folder = faces, folder
        self.columns = list(self.faces.judge.columns)
        self.sd = self.faces.spread(prompts(128, seed=5), STEPS)
        self.plain, self.slider = cache(self.drawn), cache(self._slider)

    def draw(self, texts, seeds, **settings) -> Tensor:
        return self.faces.pictures(texts, seeds, **{"steps": STEPS, **settings})

    def fresh(self, attribute: str) -> tuple[list[str], range]:
        """Random prompts that don't mention the attribute, and their seeds."""
        return prompts(SEEDS, seed=21, without=[attribute]), range(40_000, 40_000 + SEEDS)

    def drawn(self, attribute: str, count: int = SEEDS, **settings) -> Tensor:
        texts, seeds = self.fresh(attribute)
        return self.draw(texts[:count], seeds[:count], **settings)

    @cached_property
    def scored(self) -> tuple:
        """A bank of pictures of one plain prompt at every level, their scores, and the seconds both took."""
        started, texts = time.perf_counter(), {"plain": "portrait of a person"}
        (bank,) = self.faces.recorded(self.folder, texts, range(2 * FOUND_IN), steps=FOUND_AT, sites=self.faces.levels)
        return bank, self.faces.scores_of(bank), time.perf_counter() - started

    def _slider(self, attribute: str) -> tuple:
        """What Find Direction (Words) finds in a few scenes at every level, and the seconds it took."""
        started, scenes = time.perf_counter(), prompts(SCENES, seed=4, without=[attribute])
        seeds = range(30_000, 30_000 + FOUND_IN)
        found = self.faces.slider(self.folder, scenes, WORDS[attribute], seeds, steps=FOUND_AT)
        return found, time.perf_counter() - started

    def learnt(self, attribute: str, sites=None, kept=(), without: Sequence[str] = ()) -> tuple:
        """What Learn Direction (Words) learns with its own settings in 24 scenes, and the seconds it took.

        They don't mention the attribute, nor those of `without`.
        """
        started, words = time.perf_counter(), WORDS[attribute]
        texts = prompts(LESSONS, seed=4, without=(attribute, *without))
        scenes = [(*(with_word([text], word)[0] for word in words), text) for text in texts]
        found = self.faces.learnt(scenes, kept, rounds=ROUNDS, steps=FOUND_AT, sites=sites)
        return found, time.perf_counter() - started

    def injected(self, attribute: str, direction, strengths: Sequence[float], seconds: float = 0) -> Dial:
        inject, model = self.faces.host.inject, self.faces.model
        draw = lambda s: self.drawn(attribute, model=inject(model, direction, [s]))  # noqa: E731
        return Dial(strengths, draw, seconds, 2 * sum(delta.numel() for delta in direction.deltas.values()))

    def judged(self, attribute: str, dial: Dial) -> dict:
        """How far it reaches, and `off` and `identity` at one standard deviation, where it gets there."""
        plain = self.plain(attribute)
        scores, features = self.faces.scores(plain), self.faces.features(plain)
        apart = torch.cdist(features, features).sum() / (SEEDS * (SEEDS - 1))
        target, rows = self.columns.index(attribute), [(0.0, 0.0, 0.0, 0.0)]
        for strength in dial.strengths:
            drawn = dial.draw(strength)
            moved = (self.faces.scores(drawn) - scores).mean(0) / self.sd
            others = torch.cat([moved[:target], moved[target + 1 :]]).abs().mean()
            identity = (self.faces.features(drawn) - features).norm(dim=1).mean() / apart
            rows.append((strength, float(moved[target]), float(others), float(identity)))
        result = {"reach": max(row[1] for row in rows), "rows": rows, "seconds": dial.seconds, "bytes": dial.size}
        return result | at_one(rows)


def at_one(rows: Sequence[tuple[float, ...]]) -> dict[str, float]:
    """Strength, off and identity where the attribute has moved by one standard deviation; nothing if it never does."""
    for before, after in zip(rows, rows[1:], strict=False):
        if after[1] >= 1:
            weight = (1 - before[1]) / (after[1] - before[1])
            strength, _, off, identity = (b + weight * (a - b) for b, a in zip(before, after, strict=True))
            return {"strength": strength, "off": off, "identity": identity}
    return {}


def settle(bench: Bench, kind: str, attribute: str, name: str, dial: Dial, keep=keep) -> None:
    """Judge a method on an attribute, say so, and `keep` it among the figures of its `kind`."""
    judged = bench.judged(attribute, dial)
    at_one = " ".join(f"{key} {judged.get(key, float('nan')):.3f}" for key in ("strength", "off", "identity"))
    print(f"{attribute:12} {name:40} reach {judged['reach']:5.2f}  at 1 sd: {at_one}", flush=True)
    keep(f"{kind}{attribute}, {name}", judged)


def with_word(texts: Sequence[str], word: str) -> list[str]:
    return [", ".join(filter(None, (text, word))) for text in texts]


def the_word(bench: Bench, attribute: str) -> Dial:
    texts, seeds = bench.fresh(attribute)
    return Dial((1,), lambda s: bench.draw(with_word(texts, WORDS[attribute][0]), seeds))
