"""How good the faces of the transformer are, where their meaning is, and what moves it: docs/transformers.md.

    python -m pytest -s tests/benchmarks/transformer.py        (an hour and a half on two cores; -k smile one column)

As prompted.py, peers.py and which_sites.py do it for the UNet, on the same prompts and seeds.
"""

import time
from functools import cache

import lora_slider
import pytest
import torch
from dials import FOUND_AT, FOUND_IN, SCENES, WORDS, Bench, Dial, settle, the_word, with_word
from peers import as_large, scored
from prompted import measure_pictures, measure_words, prompts, shares_of
from prompted_model import BATCH, ROOT, PromptedModel
from results import remember
from safetensors.torch import save as serialised
from torch import Tensor
from transformer_page import METHODS, keep

FOLDER = ROOT / "demo" / "transformer"
END = 49407
SWAP_PAIRS, SWAP_STEPS = 48, 10
STRENGTHS = (0.5, 1, 2, 4, 8)

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="session")
def bench(pack, tmp_path_factory):
    return Bench(PromptedModel(pack, "Flux", "simple"), tmp_path_factory.mktemp("banks"))


@pytest.fixture(scope="session")
def slider(bench):
    """What Find Direction (Words) finds at every site, by attribute, and the seconds it took."""

    def found(attribute: str):
        started, scenes = time.perf_counter(), prompts(SCENES, seed=4, without=[attribute])
        seeds, sites = range(30_000, 30_000 + FOUND_IN), bench.faces.host.sites_of(bench.faces.model)
        direction = bench.faces.slider(
            bench.folder, scenes, WORDS[attribute], seeds, steps=FOUND_AT, sites=sites
        )  # fmt: skip
        return direction, time.perf_counter() - started

    return cache(found)


def test_pictures_are_what_the_prompt_says(bench):
    measure_words(bench.faces, FOLDER)


def test_pictures_without_a_prompt_are_like_the_data(bench):
    measure_pictures(bench.faces, FOLDER)


def test_where_the_meaning_is(bench):
    """For each attribute, how much of its score follows the face that gave what is at the sites: 1 all, 0 nothing."""
    faces, own, donor = bench.faces, [], []
    sites = faces.host.sites_of(faces.model)
    text = tuple(site for site in sites if site.endswith(".text"))
    choices = {site: (site,) for site in sites} | {"every text": text}
    swapped: dict[str, list] = {name: [] for name in choices}

    def scores(texts, seeds, model):
        return faces.scores(faces.pictures(texts, seeds, steps=SWAP_STEPS, model=model))

    for first in range(0, SWAP_PAIRS, 16):
        mine = prompts(16, seed=11 + first), range(8000 + first, 8016 + first)
        theirs = prompts(16, seed=12 + first), range(7000 + first, 7016 + first)
        watched, positive = faces.host.record(faces.model, "positive", sites)
        watched, negative = faces.host.record(watched, "negative", sites)
        donor.append(scores(*theirs, watched))
        own.append(scores(*mine, faces.model))
        for name, each in choices.items():
            given = {site: {"positive": positive.h[site], "negative": negative.h[site]} for site in each}
            swapped[name].append(scores(*mine, faces.host.substitute(faces.model, given, 0.0, 1.0)))
    causes = [torch.cat(each).double() for each in (donor, own)]
    shares = {name: shares_of(*causes, torch.cat(each).double()) for name, each in swapped.items()}
    for name, share in shares.items():
        print(f"{name:16}" + " ".join(f"{a} {v:.2f}" for a, v in share.items()), flush=True)
    remember(FOLDER / "measurements.json", "swap", shares)


def lora(bench: Bench, slider, attribute: str) -> Dial:
    """On the linear layers of the picture's stream and of the single blocks, not on the text's."""
    from comfy import model_management
    from comfy.patcher_extension import WrappersMP
    from comfy.sd import load_lora_for_models

    faces, started, inputs = bench.faces, time.perf_counter(), {}
    network = faces.model.model.diffusion_model

    def noted(executor, x, sigma, c_concat, c_crossattn, control, options, **kwargs):
        places = options["cond_or_uncond"]
        if 0 in places:
            inputs.setdefault(float(sigma[0]), []).append(x.chunk(len(places))[places.index(0)].clone())
        return executor(x, sigma, c_concat, c_crossattn, control, options, **kwargs)

    def predict(x, sigma, words, summary):
        model_management.in_training = True  # core's word for positions that can be differentiated
        try:
            return network(x, sigma, words, summary)
        finally:
            model_management.in_training = False

    texts, model = prompts(FOUND_IN, seed=3, without=[attribute]), faces.model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "noted", noted)
    for first in range(0, FOUND_IN, 32):
        bench.draw(texts[first : first + 32], range(20_000 + first, 20_032 + first), model=model)
    encoded = [faces.prompts(each)[0] for each in (texts, *(with_word(texts, word) for word in WORDS[attribute]))]
    said = [(words, more["pooled_output"]) for words, more in encoded]
    adapter = lora_slider.Slider(
        network, lambda name: ("single_blocks" in name or "img_" in name) and "mod" not in name
    )
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        file = lora_slider.train(adapter, predict, {t: torch.cat(x) for t, x in inputs.items()}, *said)
    seconds, (fresh, seeds) = time.perf_counter() - started, bench.fresh(attribute)

    def draw(strength: float):
        adapted, _ = load_lora_for_models(faces.model, None, file, strength, 0)
        return bench.draw(fresh, seeds, model=adapted)

    return Dial(STRENGTHS, draw, seconds, len(serialised(file)))


def part(bench: Bench, slider, attribute: str, sites, fit: str = "resize", made=lambda found: found) -> Dial:
    """What was found, at some of its sites."""
    found, seconds = slider(attribute)
    inject, model, direction = bench.faces.host.inject, bench.faces.model, made(found.only(sites))
    draw = lambda s: bench.drawn(attribute, model=inject(model, direction, [s], fit=fit))  # noqa: E731
    return Dial(STRENGTHS, draw, seconds, 2 * sum(delta.numel() for delta in direction.deltas.values()))


def patched(bench: Bench, slider, attribute: str, sites, added) -> Dial:
    """What was found, at some of its sites, added in another way: `added(call, delta, texts)` is the new h."""
    found, seconds = slider(attribute)
    patching, direction = bench.faces.module("nodes.host.patching"), found.only(sites)

    def model(strength: float, texts):
        def patch(call):
            return added(call, strength * direction.at(call.site, call.timesteps[:1]), texts)

        return patching.patched(bench.faces.model, dict.fromkeys(sites, patch))

    def draw(strength: float):
        texts, seeds = bench.fresh(attribute)
        parts = [slice(first, first + BATCH) for first in range(0, len(seeds), BATCH)]
        return torch.cat([bench.draw(texts[p], seeds[p], model=model(strength, texts[p])) for p in parts])

    return Dial(STRENGTHS, draw, seconds, 2 * sum(delta.numel() for delta in direction.deltas.values()))


def turned(call, delta, texts):
    """h turned towards the delta: each token keeps its norm."""
    moved = call.h + delta
    return moved * (call.h.norm(dim=1, keepdim=True) / moved.norm(dim=1, keepdim=True))


def to_what_is_said(bench: Bench):
    """To the text's tokens up to the end of each prompt, not to those that fill its 77 places."""
    tokenize = bench.faces.clip.tokenize

    def lengths(texts) -> Tensor:
        ids = [[token for token, _ in tokenize(text)["l"][0]] for text in texts]
        return torch.tensor([each.index(END) + 1 for each in ids])

    def added(call, delta, texts):
        positive = lengths(texts).repeat(len(call.h) // len(texts))
        negative = lengths([""]).expand(len(positive))
        places = torch.tensor(call.options["cond_or_uncond"]).repeat_interleave(len(texts))
        content = torch.arange(call.h.shape[3]) < torch.where(places == 0, positive, negative)[:, None]
        return call.h + delta * content[:, None, None]

    return added


def as_the_node_finds_it(bench: Bench, slider, attribute: str) -> Dial:
    """With sites auto: strength 1 is the way from one word to the other."""
    found, seconds = bench.slider(attribute)
    return bench.injected(attribute, found, (0.25, 0.5, 1, 2), seconds)


def learnt(bench: Bench, slider, attribute: str) -> Dial:
    found, seconds = bench.learnt(attribute)
    return bench.injected(attribute, found, (0.5, 1, 2, 3), seconds)


def scored_there(bench: Bench, slider, attribute: str) -> Dial:
    """Find Direction (Scores) by regression, the nine other attributes held."""
    found, seconds = scored(bench, attribute)
    return bench.injected(attribute, found, (0.5, 1, 2, 3, 4), seconds)


TEXT = [f"double.{number}.text" for number in range(3)]
PICTURE = [f"double.{number}" for number in range(3)] + [f"single.{number}" for number in range(5)]
BLOCK = ["single.0"]
"""That of auto."""
DIALS = {
    "the word": lambda bench, slider, attribute: the_word(bench, attribute),
    "LoRA slider": lora,
    "pairs, the block": as_the_node_finds_it,
    "learnt from words, the block": learnt,
    "scores, the block": scored_there,
    "pairs, the block, norms kept": lambda *given: patched(*given, BLOCK, turned),
    "pairs, the block, token means": lambda *given: part(*given, BLOCK, "channel mean"),
    "pairs, every block": lambda *given: part(*given, PICTURE),
    "pairs, the text": lambda *given: part(*given, TEXT),
    "pairs, the text up to a prompt's end": lambda *given: patched(*given, TEXT, to_what_is_said(given[0])),
    "pairs, the block and the text": lambda *given: part(*given, BLOCK + TEXT),
    "random, the block": lambda *given: part(*given, BLOCK, made=as_large),
}


@pytest.mark.parametrize("attribute", WORDS)
@pytest.mark.parametrize("name", DIALS)
def test_what_moves_an_attribute(bench, slider, attribute, name):
    settle(bench, METHODS, attribute, name, DIALS[name](bench, slider, attribute), keep)
