"""What moves an attribute of the prompted faces, side by side: the table of docs/prompted.md.

    python -m pytest -s tests/benchmarks/peers.py            (an hour and a half on two cores)

The word in the prompt and its weight; a LoRA concept slider; steering of cross-attention; ComfyUI-Model-Bending's
mathematics; what this pack finds at the bottleneck; random directions. Each is judged on the same fresh seeds under the
same random prompts: how far the attribute goes (in standard deviations, sd), and where it has gone by one, how much the
nine others have changed on average (off) and how far the face is from what it was (identity, 1 two different faces).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import bending
import cross_attention
import lora_slider
import pytest
import torch
from prompted import prompts
from prompted_model import PromptedModel
from prompted_page import PEERS, keep
from safetensors.torch import save as serialised
from torch import Tensor

WORDS = {
    "smile": ("smiling", "frowning"),
    "glasses": ("glasses", "no glasses"),
    "age": ("old", "young"),
    "beard": ("beard", "no beard"),
    "hair_length": ("long hair", "short hair"),
}
SEEDS, STEPS = 48, 10
FOUND_IN = 96
"""Pictures, or pairs, that each method is found in."""

pytestmark = pytest.mark.comfy


@dataclass(frozen=True)
class Dial:
    """A method that has been found: how it draws at a strength, and what it took."""

    name: str
    strengths: Sequence[float]
    draw: Callable[[float], Tensor]
    """Pictures of the fresh seeds."""
    seconds: float
    size: int
    """Bytes of what is kept; 0 where it is words."""


class Bench:
    """The model, the fresh seeds, and what they are without an edit."""

    def __init__(self, pack, folder):
        self.faces, self.folder = PromptedModel(pack), folder
        self.columns = list(self.faces.judge.columns)
        self.sd = self.faces.spread(prompts(128, seed=5), STEPS)
        self.plain = cache(lambda attribute: self.draw(*self.fresh(attribute)))

    def draw(self, texts, seeds, **settings) -> Tensor:
        return self.faces.pictures(texts, seeds, steps=STEPS, **settings)

    @cached_property
    def scored(self) -> tuple:
        """A bank of pictures of one plain prompt, their scores, and the seconds both took."""
        started, texts = time.perf_counter(), {"plain": "portrait of a person"}
        (bank,) = self.faces.recorded(self.folder, texts, range(2 * FOUND_IN), steps=STEPS)
        return bank, self.faces.scores_of(bank), time.perf_counter() - started

    def fresh(self, attribute: str) -> tuple[list[str], range]:
        return prompts(SEEDS, seed=21, without=attribute), range(40_000, 40_000 + SEEDS)

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


def with_word(texts: Sequence[str], word: str) -> list[str]:
    return [", ".join(filter(None, (text, word))) for text in texts]


def the_word(bench: Bench, attribute: str) -> Dial:
    texts, seeds = bench.fresh(attribute)
    word = WORDS[attribute][0]
    return Dial("word in the prompt", (1,), lambda s: bench.draw(with_word(texts, word), seeds), 0, 0)


def the_weight(bench: Bench, attribute: str) -> Dial:
    texts, seeds = bench.fresh(attribute)
    word = WORDS[attribute][0]
    draw = lambda s: bench.draw(with_word(texts, f"({word}:{s})"), seeds)  # noqa: E731
    return Dial("weight in the prompt", (0.25, 0.5, 0.75, 1, 1.25, 1.5), draw, 0, 0)


def lora(bench: Bench, attribute: str) -> Dial:
    from comfy.sd import load_lora_for_models

    faces, started = bench.faces, time.perf_counter()
    texts = prompts(FOUND_IN, seed=3, without=attribute)
    recording, recorder = faces.host.record(faces.model, "positive")
    inputs: dict[float, list] = {}
    for first in range(0, FOUND_IN, 32):
        recorder.x.clear()
        bench.draw(texts[first : first + 32], range(20_000 + first, 20_032 + first), model=recording)
        for timestep, x in recorder.x.items():
            inputs.setdefault(timestep, []).append(x)
    contexts = [faces.prompts(each)[0][0] for each in (texts, *(with_word(texts, w) for w in WORDS[attribute]))]
    unet = faces.model.model.diffusion_model
    file = lora_slider.train(unet, {t: torch.cat(x) for t, x in inputs.items()}, *contexts)
    seconds = time.perf_counter() - started
    fresh, seeds = bench.fresh(attribute)

    def draw(strength: float) -> Tensor:
        model, _ = load_lora_for_models(faces.model, None, file, strength, 0)
        return bench.draw(fresh, seeds, model=model)

    return Dial("LoRA concept slider", (0.25, 0.5, 1, 2, 4), draw, seconds, len(serialised(file)))


def steering(bench: Bench, attribute: str) -> Dial:
    faces, started, means = bench.faces, time.perf_counter(), []
    texts = prompts(FOUND_IN, seed=4, without=attribute)
    for word in WORDS[attribute]:
        read = cross_attention.Means()
        model = faces.model.clone()
        model.set_model_attn2_output_patch(read)
        bench.draw(with_word(texts, word), range(30_000, 30_000 + FOUND_IN), model=model)
        means.append(read)
    vectors = cross_attention.difference(*means)
    seconds, size = time.perf_counter() - started, 2 * sum(vector.numel() for vector in vectors.values())
    fresh, seeds = bench.fresh(attribute)

    def draw(strength: float) -> Tensor:
        model = faces.model.clone()
        model.set_model_attn2_output_patch(cross_attention.Steering(vectors, strength))
        return bench.draw(fresh, seeds, model=model)

    return Dial("cross-attention steering", (1, 2, 4, 8), draw, seconds, size)


def bent(bench: Bench, attribute: str) -> Dial:
    """The component and sign that move the attribute most on sixteen pictures, which nobody tells a user of it."""
    unet, started = bench.faces.model.model.diffusion_model, time.perf_counter()
    texts = prompts(32, seed=4, without=attribute)
    found = bending.components(unet, lambda: bench.draw(texts, range(30_000, 30_032)))
    tried, seeds = texts[:16], range(30_000, 30_016)
    column = bench.columns.index(attribute)

    def effect(component: Tensor) -> float:
        with bending.bent(unet, component, 100):
            return float(bench.faces.scores(bench.draw(tried, seeds))[:, column].mean())

    signed = [sign * component for component in found for sign in (1, -1)]
    best = max(signed, key=effect)
    seconds = time.perf_counter() - started
    fresh, seeds = bench.fresh(attribute)

    def draw(strength: float) -> Tensor:
        parts = []
        for first in range(0, SEEDS, 32):  # its step counter begins anew with every sampling
            with bending.bent(unet, best, strength):
                parts.append(bench.draw(fresh[first : first + 32], seeds[first : first + 32]))
        return torch.cat(parts)

    return Dial("Model-Bending, best of ten components", (30, 100, 300, 1000), draw, seconds, 4 * best.numel())


def injected(bench: Bench, attribute: str, name: str, direction, strengths: Sequence[float], seconds: float) -> Dial:
    fresh, seeds = bench.fresh(attribute)
    host = bench.faces.host
    draw = lambda s: bench.draw(fresh, seeds, model=host.inject(bench.faces.model, direction, [s]))  # noqa: E731
    return Dial(name, strengths, draw, seconds, 2 * direction.delta.numel())


def pairs_and_random(bench: Bench, attribute: str, folder) -> list[Dial]:
    """Find Direction (Prompts), and a random direction of the same norm at each timestep."""
    started = time.perf_counter()
    runs = {word: f"portrait of a person, {word}" for word in WORDS[attribute]}
    banks = bench.faces.recorded(folder, runs, range(30_000, 30_000 + FOUND_IN), steps=STEPS)
    found = bench.faces.directions.find_from_examples(*banks, paired=True, name=attribute).direction
    seconds = time.perf_counter() - started
    noise = torch.randn(found.delta.shape, generator=torch.Generator().manual_seed(0))
    scale = found.delta.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    random = replace(found, delta=noise * scale.reshape(-1, 1, 1, 1))
    return [
        injected(bench, attribute, "bottleneck: pairs of prompts", found, (1, 2, 4, 8), seconds),
        injected(bench, attribute, "bottleneck: random, as large", random, (1, 2, 4, 8), 0),
    ]


def regression(bench: Bench, attribute: str) -> Dial:
    """Find Direction (Scores) in pictures of one plain prompt, the nine others held."""
    bank, scores, recording = bench.scored
    started = time.perf_counter()
    found = bench.faces.direction_from_scores(bank, scores, attribute)
    seconds = recording + time.perf_counter() - started
    return injected(bench, attribute, "bottleneck: scores, others held", found, (1, 2, 4, 8), seconds)


@pytest.fixture(scope="module")
def bench(pack, tmp_path_factory):
    return Bench(pack, tmp_path_factory.mktemp("banks"))


@pytest.mark.parametrize("attribute", WORDS)
def test_what_moves_an_attribute(bench, attribute, tmp_path):
    dials = [find(bench, attribute) for find in (the_word, the_weight, lora, steering, bent)]
    dials += [*pairs_and_random(bench, attribute, tmp_path), regression(bench, attribute)]
    table = {}
    for dial in dials:
        table[dial.name] = judged = bench.judged(attribute, dial)
        at_one = " ".join(f"{name} {judged.get(name, float('nan')):.3f}" for name in ("strength", "off", "identity"))
        print(f"{attribute:12} {dial.name:40} reach {judged['reach']:5.2f}  at 1 sd: {at_one}", flush=True)
    keep(f"{PEERS}{attribute}", table)
