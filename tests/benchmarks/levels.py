"""What else holds of directions at the decoder's levels of the prompted faces: the lists of docs/prompted.md.

    python -m pytest -s tests/benchmarks/levels.py        (three quarters of an hour on two cores)

Made independent of each other and stacked; principal components; under other settings than they were found at; in
pictures the model has not made.
"""

from functools import cache

import numpy as np
import pytest
import torch
from demo_faces import folder_of, node_classes
from dials import STEPS, WORDS, with_word
from peers import lora_file
from prompted_model import BATCH, CFG
from prompted_page import LEVELS, keep
from scipy.stats import spearmanr

ALSO = "skin", "background"
EXAMPLES, STACKED = 50, 0.75
"""Pictures on each side of a mean difference; standard deviations that each of a stack of edits is set to."""
STRENGTHS = (0.25, 0.5, 1.0, 2.0, 3.0)
COMPONENTS, SWEPT = 10, (-3.0, -1.5, 0.0, 1.5, 3.0)
FEWER = 24
"""Fresh seeds of each figure."""
PICTURES, INVERSION_STEPS, PLAIN = 32, 50, "portrait of a person"

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def held(bench):
    """Directions by regression, the nine other attributes held, by attribute."""
    return cache(lambda attribute: bench.faces.direction_from_scores(*bench.scored[:2], attribute))


def moved(bench, attribute: str, *edits) -> torch.Tensor:
    """The mean change `(10,)` of the fresh seeds of an attribute, in sd, by edits and their strengths."""
    model = bench.faces.model
    for direction, strength in edits:
        model = bench.faces.host.inject(model, direction, [strength])
    plain = bench.faces.scores(bench.plain(attribute)[:FEWER])
    return (bench.faces.scores(bench.drawn(attribute, FEWER, model=model)) - plain).mean(0) / bench.sd


def strength_for(bench, attribute: str, direction, target: float) -> float:
    """At which it moves its attribute so far; the last that was tried if it never does."""
    column, reached = bench.columns.index(attribute), [0.0]
    for strength in STRENGTHS:
        reached.append(float(moved(bench, attribute, (direction, strength))[column]))
        if reached[-1] >= target:
            break
    return float(np.interp(target, np.maximum.accumulate(reached), [0.0, *STRENGTHS][: len(reached)]))


def test_made_independent(bench, held):
    """Mean differences of examples, before and after projection off the six other attributes' held directions."""
    bank, scores, _ = bench.scored
    find, orthogonalise = bench.faces.directions.find_from_scores, bench.faces.directions.orthogonalise
    every, rows = [*WORDS, *ALSO], {}
    columns = [bench.columns.index(name) for name in every]
    for attribute in WORDS:
        plain = find(bank, scores, attribute, method="examples", examples=EXAMPLES).direction
        cleaned = orthogonalise(plain, [held(other) for other in every if other != attribute])
        own, row = every.index(attribute), {}
        for name, direction in {"before": plain, "after": cleaned}.items():
            strength = strength_for(bench, attribute, direction, 1.0)
            change = moved(bench, attribute, (direction, strength))[columns]
            others = torch.cat([change[:own], change[own + 1 :]]).abs().mean()
            row[name] = {"strength": strength, "on": float(change[own]), "off": float(others)}
        rows[attribute] = row
        print(attribute, row, flush=True)
    keep(f"{LEVELS}made independent", rows)


def test_stacked(bench, held):
    """Four edits at once, each against itself alone, on the seeds and prompts of the fifth attribute."""
    names = [name for name in WORDS if name != "age"]
    edits = {name: (held(name), strength_for(bench, name, held(name), STACKED)) for name in names}
    together = moved(bench, "age", *edits.values())
    reversed_ = moved(bench, "age", *reversed(edits.values()))
    shares = {}
    for name in names:
        alone = moved(bench, "age", edits[name])
        shares[name] = float(together[bench.columns.index(name)] / alone[bench.columns.index(name)])
    order = float((together - reversed_).abs().max())
    print(shares, order, flush=True)
    keep(f"{LEVELS}stacked", {"shares": shares, "order": order})


def test_components(bench):
    """What each component moves most steadily: Spearman's correlation, and sd for a strength of 1."""
    found = bench.faces.directions.find_components(bench.scored[0], COMPONENTS)
    rows, strengths = [], torch.tensor(SWEPT)
    for direction in found:
        plain = bench.faces.scores(bench.plain("smile")[:FEWER])
        changes = torch.stack([
            bench.faces.scores(
                bench.drawn("smile", FEWER, model=bench.faces.host.inject(bench.faces.model, direction, [s]))
            ) - plain if s else plain * 0
            for s in SWEPT
        ]) / bench.sd  # fmt: skip
        repeated = strengths.repeat_interleave(FEWER)
        rho = [float(np.nan_to_num(spearmanr(repeated, changes[:, :, i].flatten()).statistic)) for i in range(10)]
        slopes = ((strengths[:, None] * changes.mean(1)).sum(0) / strengths.square().sum()).tolist()
        best = max(range(10), key=lambda i: abs(rho[i]))
        rows.append({"attribute": bench.columns[best], "spearman": rho[best], "per unit": slopes[best]})
        print(direction.name, rows[-1], flush=True)
    keep(f"{LEVELS}components", {"rows": rows})


@pytest.mark.parametrize("attribute", WORDS)
def test_under_other_settings(bench, attribute):
    """How far strength 1 of a slider from words moves its attribute under settings it was not found at."""
    import comfy.samplers

    sde = comfy.samplers.sampler_object("dpmpp_2m_sde")
    settings = {
        "as found": {},
        "30 steps dpmpp_2m_sde": {"steps": 30, "sampler": sde},
        "cfg 1": {"cfg": 1.0},
        "cfg 7": {"cfg": 7.0},
        "img2img, half the steps": {"start": bench.faces.latents([PLAIN], [50_000], steps=STEPS)},
    }
    direction, column = bench.slider(attribute)[0], bench.columns.index(attribute)
    edited, rows = bench.faces.host.inject(bench.faces.model, direction, [1.0]), {}
    for name, each in settings.items():
        plain, with_it = (
            bench.faces.scores(bench.drawn(attribute, FEWER, **each, **m)) for m in ({}, {"model": edited})
        )
        rows[name] = float((with_it - plain).mean(0)[column] / bench.sd[column])
    print(attribute, rows, flush=True)
    keep(f"{LEVELS}other settings, {attribute}", rows)


SHAPES = {"tall, 64 x 80": (40, 32), "wide, 80 x 64": (32, 40)}
"""Height and width of the latent."""


@pytest.fixture(scope="module")
def under_lora(bench):
    """The model under the LoRA concept slider of an attribute, at strength 1."""
    from comfy.sd import load_lora_for_models

    return cache(lambda attribute: load_lora_for_models(bench.faces.model, None, lora_file(bench, attribute), 1, 0)[0])


@pytest.mark.parametrize("attribute", WORDS)
def test_in_other_shapes_and_under_a_lora(bench, under_lora, attribute):
    """How far strength 1 of a slider moves its attribute in the middle 64 x 64 of pictures of another shape, and under
    the LoRA of another attribute; beside it, the word."""
    inject, direction = bench.faces.host.inject, bench.slider(attribute)[0]
    column, texts, seeds = bench.columns.index(attribute), *bench.fresh(attribute)
    texts, seeds, rows = texts[:FEWER], seeds[:FEWER], {}
    other = under_lora("age" if attribute == "smile" else "smile")
    settings = {name: {"sides": sides} for name, sides in SHAPES.items()} | {"under a LoRA": {"model": other}}

    def judged(words, **each):
        pictures = bench.draw(words, seeds, **each)
        top, left = ((side - 64) // 2 for side in pictures.shape[1:3])
        return bench.faces.scores(pictures[:, top : top + 64, left : left + 64])[:, column].mean() / bench.sd[column]

    for name, each in settings.items():
        edited = each | {"model": inject(each.get("model", bench.faces.model), direction, [1.0])}
        plain, word = judged(texts, **each), judged(with_word(texts, WORDS[attribute][0]), **each)
        rows[name] = {"slider": float(judged(texts, **edited) - plain), "word": float(word - plain)}
    print(attribute, rows, flush=True)
    keep(f"{LEVELS}elsewhere, {attribute}", rows)


@torch.inference_mode()  # as ComfyUI runs nodes
def test_pictures_it_has_not_made(bench):
    """Renders, inverted under guidance: how far a slider moves them beside generated faces at the same strength."""
    from classifier import to_tensor
    from comfy_extras.nodes_custom_sampler import CFGGuider, SamplerCustomAdvanced
    from faces import render_batch

    faces = bench.faces
    pictures = to_tensor(render_batch(PICTURES, seed=77_000_000)[0])
    latent = {"samples": faces.vae.encode((pictures.movedim(1, -1) + 1) / 2)}
    positive, negative = faces.prompts([PLAIN]), faces.prompts([""])
    with folder_of("hspace_banks", bench.folder):
        noise, latent, sampler, sigmas, *_ = node_classes(faces.pack).HSpaceInvertImage.execute(
            faces.model, positive, negative, latent, faces.sigmas(INVERSION_STEPS), "edit-friendly DDPM", 0, 0, "real",
            PICTURES, CFG, "positive",
        ).result  # fmt: skip

    def real(model):
        guider = CFGGuider.execute(model, positive, negative, CFG).result[0]
        out = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).result[0]
        return faces.scores(faces.vae.decode(out["samples"]))

    def generated(model):
        return faces.scores(bench.draw([PLAIN] * BATCH, range(60_000, 60_000 + BATCH), model=model))

    before, rows = {real: real(faces.model), generated: generated(faces.model)}, {}
    for attribute in WORDS:
        direction, column = bench.slider(attribute)[0], bench.columns.index(attribute)
        edited = faces.host.inject(faces.model, direction, [0.5])
        change = {
            draw: float((draw(edited) - plain).mean(0)[column] / bench.sd[column]) for draw, plain in before.items()
        }
        rows[attribute] = {"real": change[real], "generated": change[generated]}
        print(attribute, rows[attribute], change[real] / change[generated], flush=True)
    keep(f"{LEVELS}real pictures", rows)
