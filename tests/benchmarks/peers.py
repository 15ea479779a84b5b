"""What moves an attribute of the prompted faces, side by side: the first table of docs/prompted.md.

    python -m pytest -s tests/benchmarks/peers.py            (two hours on two cores; -k "smile and LoRA" one cell)

The word in the prompt and its weight; a LoRA concept slider; steering of cross-attention; ComfyUI-Model-Bending's
mathematics; what this pack finds at the bottleneck and at the decoder's levels; random directions. Each is judged on
the same fresh seeds under the same random prompts: how far the attribute goes (in standard deviations, sd), and where
it has gone by one, how much the nine others have changed on average (off) and how far the face is from what it was
(identity, 1 two different faces).
"""

import time
from dataclasses import replace

import bending
import cross_attention
import lora_slider
import pytest
import torch
from dials import FOUND_AT, FOUND_IN, SEEDS, WORDS, Bench, Dial, settle, the_word, with_word
from prompted import prompts
from prompted_page import PEERS
from safetensors.torch import save as serialised
from torch import Tensor

MARKED = 15
"""Pictures marked as having it, and as many as lacking it: the highest and lowest that the classifier scores."""
NAMELESS = "eyes", "background"
"""What no word of the model names."""

pytestmark = pytest.mark.comfy


def the_weight(bench: Bench, attribute: str) -> Dial:
    texts, seeds = bench.fresh(attribute)
    word = WORDS[attribute][0]
    draw = lambda s: bench.draw(with_word(texts, f"({word}:{s})"), seeds)  # noqa: E731
    return Dial((0.25, 0.5, 0.75, 1, 1.25, 1.5), draw)


def lora_file(bench: Bench, attribute: str) -> dict[str, Tensor]:
    """A LoRA concept slider of the attribute, as core's loader takes it."""
    from comfy.patcher_extension import WrappersMP

    inputs: dict[float, list] = {}

    def noted(executor, x, timesteps, context, y, control, options, **kwargs):
        places = options["cond_or_uncond"]
        if 0 in places:
            inputs.setdefault(float(timesteps[0]), []).append(x.chunk(len(places))[places.index(0)].clone())
        return executor(x, timesteps, context, y, control, options, **kwargs)

    faces, texts = bench.faces, prompts(FOUND_IN, seed=3, without=[attribute])
    model = faces.model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "noted", noted)
    for first in range(0, FOUND_IN, 32):
        bench.draw(texts[first : first + 32], range(20_000 + first, 20_032 + first), model=model)
    said = [faces.prompts(each)[0][:1] for each in (texts, *(with_word(texts, w) for w in WORDS[attribute]))]
    unet = faces.model.model.diffusion_model
    slider = lora_slider.Slider(unet, lora_slider.without_cross_attention)
    predict = lambda x, t, words: unet(x, t, context=words)  # noqa: E731
    return lora_slider.train(slider, predict, {t: torch.cat(x) for t, x in inputs.items()}, *said)


def lora(bench: Bench, attribute: str) -> Dial:
    from comfy.sd import load_lora_for_models

    faces, started = bench.faces, time.perf_counter()
    file = lora_file(bench, attribute)
    seconds = time.perf_counter() - started
    fresh, seeds = bench.fresh(attribute)

    def draw(strength: float) -> Tensor:
        model, _ = load_lora_for_models(faces.model, None, file, strength, 0)
        return bench.draw(fresh, seeds, model=model)

    return Dial((0.25, 0.5, 1, 2, 4), draw, seconds, len(serialised(file)))


def steering(bench: Bench, attribute: str) -> Dial:
    faces, started, means = bench.faces, time.perf_counter(), []
    texts = prompts(FOUND_IN, seed=4, without=[attribute])
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

    return Dial((1, 2, 4, 8), draw, seconds, size)


def bent(bench: Bench, attribute: str) -> Dial:
    """The component and sign that move the attribute most on sixteen pictures, which nobody tells a user of it."""
    unet, started = bench.faces.model.model.diffusion_model, time.perf_counter()
    texts = prompts(32, seed=4, without=[attribute])
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

    return Dial((30, 100, 300, 1000), draw, seconds, 4 * best.numel())


def pairs_at_bottleneck(bench: Bench, attribute: str):
    """The mean difference of two banks, one prompt with either word, and the seconds it took."""
    started = time.perf_counter()
    runs = {word: f"portrait of a person, {word}" for word in WORDS[attribute]}
    banks = bench.faces.recorded(bench.folder, runs, range(30_000, 30_000 + FOUND_IN), steps=FOUND_AT)
    found = bench.faces.directions.find_from_examples(*banks, paired=True, name=attribute).direction
    return found, time.perf_counter() - started


def as_large(found):
    """A random direction with the norm of `found` at each site and timestep."""
    generator, deltas = torch.Generator().manual_seed(0), {}
    for site, delta in found.deltas.items():
        noise = torch.randn(delta.shape, generator=generator)
        scale = delta.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
        deltas[site] = noise * scale.reshape(-1, 1, 1, 1)
    return replace(found, deltas=deltas)


def bottleneck_pairs(bench: Bench, attribute: str) -> Dial:
    found, seconds = pairs_at_bottleneck(bench, attribute)
    return bench.injected(attribute, found, (1, 2, 4, 8), seconds)


def bottleneck_random(bench: Bench, attribute: str) -> Dial:
    return bench.injected(attribute, as_large(pairs_at_bottleneck(bench, attribute)[0]), (1, 2, 4, 8))


def bottleneck_scores(bench: Bench, attribute: str) -> Dial:
    found, seconds = scored(bench, attribute)
    return bench.injected(attribute, found.only(["middle"]), (1, 2, 4, 8), seconds)


def scored(bench: Bench, attribute: str):
    """Find Direction (Scores) by regression in pictures of one plain prompt, the nine others held; and the seconds."""
    bank, scores, recording = bench.scored
    started = time.perf_counter()
    found = bench.faces.direction_from_scores(bank, scores, attribute)
    return found, recording + time.perf_counter() - started


def levels_pairs(bench: Bench, attribute: str) -> Dial:
    found, seconds = bench.slider(attribute)
    return bench.injected(attribute, found, (0.25, 0.5, 1, 2), seconds)


def levels_scores(bench: Bench, attribute: str) -> Dial:
    found, seconds = scored(bench, attribute)
    return bench.injected(attribute, found, (0.25, 0.5, 1, 2, 3), seconds)


def one_level_scores(bench: Bench, attribute: str) -> Dial:
    found, seconds = scored(bench, attribute)
    return bench.injected(attribute, found.only(["output.3"]), (0.5, 1, 2, 3, 4), seconds)


def levels_marked(bench: Bench, attribute: str) -> Dial:
    bank, scores, recording = bench.scored
    started = time.perf_counter()
    find = bench.faces.directions.find_from_scores
    found = find(bank, scores, attribute, method="examples", examples=MARKED).direction
    seconds = recording + time.perf_counter() - started
    return bench.injected(attribute, found, (0.25, 0.5, 1, 2, 3), seconds)


def levels_learnt(bench: Bench, attribute: str) -> Dial:
    found, seconds = bench.learnt(attribute)
    return bench.injected(attribute, found, (0.5, 1, 2, 3), seconds)


def bottleneck_learnt(bench: Bench, attribute: str) -> Dial:
    found, seconds = bench.learnt(attribute, ["middle"])
    return bench.injected(attribute, found, (0.5, 1, 2, 4), seconds)


def levels_random(bench: Bench, attribute: str) -> Dial:
    return bench.injected(attribute, as_large(bench.slider(attribute)[0]), (1, 2, 4))


METHODS = {
    "word in the prompt": the_word,
    "weight in the prompt": the_weight,
    "LoRA concept slider": lora,
    "cross-attention steering": steering,
    "Model-Bending, best of ten components": bent,
    "levels: pairs of words": levels_pairs,
    "levels: learnt from words": levels_learnt,
    "levels: scores, others held": levels_scores,
    "levels: scores, others held, output.3 alone": one_level_scores,
    "levels: 30 marked pictures": levels_marked,
    "levels: random, as large": levels_random,
    "bottleneck: pairs of prompts": bottleneck_pairs,
    "bottleneck: scores, others held": bottleneck_scores,
    "bottleneck: learnt from words": bottleneck_learnt,
    "bottleneck: random, as large": bottleneck_random,
}


@pytest.mark.parametrize("attribute", WORDS)
@pytest.mark.parametrize("name", METHODS)
def test_what_moves_an_attribute(bench, attribute, name):
    settle(bench, PEERS, attribute, name, METHODS[name](bench, attribute))


@pytest.mark.parametrize("attribute", NAMELESS)
def test_what_no_word_names(bench, attribute):
    settle(bench, PEERS, attribute, "levels: scores, others held", levels_scores(bench, attribute))
