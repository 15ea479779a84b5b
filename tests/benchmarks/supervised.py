"""How many examples a direction needs, how steadily it acts, and how edits stack: the demo model, with the truth known.

    python -m pytest -s tests/benchmarks/supervised.py        (about half an hour on two cores)

Writes docs/supervised.json, docs/efficiency.png, docs/linearity.png and docs/stacked.jpg.
"""

import importlib
import os
from itertools import permutations
from pathlib import Path

import pytest
import torch
from demo_model import ROOT, DemoModel
from PIL import Image
from results import known, remember, rounded
from scipy.stats import spearmanr
from torch.nn.functional import cosine_similarity

pytestmark = pytest.mark.comfy

DOCS = ROOT / "docs"
RESULTS = DOCS / "supervised.json"
TARGETS, ALSO = ("smile", "glasses", "age", "beard", "hair_length"), ("skin", "background", "yaw")
TRAJECTORIES, EXAMPLES = 1000, 200
COUNTS, DRAWS = (5, 10, 20, 50, 100, 200), 8
SEEDS = range(3_000_000, 3_000_064)
LINEARITY_SEEDS = {"beard": 256}
"""Most faces have no beard and can't lose one: of 64 the mean below strength 0 is chance (its Spearman was .900)."""
STRENGTHS = (-2.0, -1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
BROKEN = 1.25
"""Roughness, against unedited pictures, from which on a picture counts as broken."""
STACK = {"smile": 0.4, "age": 0.25, "glasses": 0.5, "yaw": 0.5}


@pytest.fixture(scope="module")
def demo(pack, tmp_path_factory):
    return DemoModel(pack, Path(os.environ.get("HSPACE_BENCHMARK_BANKS", tmp_path_factory.mktemp("banks"))))


@pytest.fixture(scope="module")
def scored(demo):
    bank = demo.recorded(TRAJECTORIES)
    return bank, demo.scores_of(bank)


@pytest.fixture(scope="module")
def found(demo, scored):
    """The direction of each attribute, by the default finder, the others held."""
    names = (*TARGETS, *ALSO)
    return {
        name: demo.directions.find_from_scores(*scored, name, examples=EXAMPLES, others=names).direction
        for name in names
    }


def test_how_many_examples_a_direction_needs(pack, demo, scored):
    """Cosine with the direction from all examples: the paper's Fig. 8a."""
    bank, scores = scored
    noise = initial_noise(bank.seeds)
    h = torch.stack([bank.h("middle", step).flatten(1) for step in range(len(bank.timesteps))], 1).flatten(1)
    results = {}
    for name in TARGETS:
        ranked = scores.column(name).argsort()
        low, high = ranked[:EXAMPLES], ranked[-EXAMPLES:]
        results[name] = {
            space: [mean_cosine(x, high, low, count) for count in COUNTS] for space, x in (("h", h), ("x_T", noise))
        }
        print(name, rounded(results[name]), flush=True)
    remember(RESULTS, "efficiency", {"counts": COUNTS, "cosine": results})
    figure, axes = panels(len(TARGETS))
    for axis, (name, curves) in zip(axes, results.items(), strict=True):
        for (space, curve), colour in zip(curves.items(), ("#0072b2", "#d55e00"), strict=True):
            axis.plot(COUNTS, curve, "o-", color=colour, label=space)
        axis.set(title=name.replace("_", " "), xscale="log", xlabel="examples on each side", ylim=(0, 1.02))
    axes[0].set_ylabel(f"cosine with the direction of {EXAMPLES}")
    axes[0].legend()
    figure.savefig(DOCS / "efficiency.png")


def mean_cosine(x, high, low, count: int) -> float:
    """Of directions from `count` random examples on each side with the direction from all of them."""
    generator, whole = torch.Generator().manual_seed(0), x[high].mean(0) - x[low].mean(0)
    draws = [
        x[high[torch.randperm(len(high), generator=generator)[:count]]].mean(0)
        - x[low[torch.randperm(len(low), generator=generator)[:count]]].mean(0)
        for _ in range(DRAWS)
    ]
    return cosine_similarity(torch.stack(draws), whole.unsqueeze(0)).mean().item()


def initial_noise(seeds) -> torch.Tensor:
    import comfy.sample

    empty = torch.zeros(1, 3, 64, 64)
    return torch.cat([comfy.sample.prepare_noise(empty, seed) for seed in seeds]).flatten(1)


@pytest.mark.parametrize("name", TARGETS)
def test_an_attribute_follows_the_strength(demo, found, name):
    index, seeds = demo.judge.columns.index(name), range(SEEDS[0], SEEDS[0] + LINEARITY_SEEDS.get(name, len(SEEDS)))
    plain, scores, roughness = demo.latents(seeds), [], []
    for strength in STRENGTHS:
        latents = demo.latents(seeds, [(found[name], strength)]) if strength else plain
        scores.append(demo.judge.scores(demo.images(latents))[:, index])
        roughness.append((rough(latents) / rough(plain)).mean().item())
    table = torch.stack(scores)
    each = [spearmanr(STRENGTHS, table[:, i]).statistic for i in range(len(seeds))]
    broken = [s for s, r in zip(STRENGTHS, roughness, strict=True) if r > BROKEN]
    result = {
        "seeds": len(seeds),
        "mean": table.mean(1).tolist(),
        "spearman of the mean": spearmanr(STRENGTHS, table.mean(1)).statistic,
        "median spearman of a picture": torch.tensor(each).nanmedian().item(),
        "roughness": roughness,
        "broken from": min(broken, key=abs) if broken else None,
    }
    print(name, rounded(result), flush=True)
    remember(RESULTS, "linearity", known(RESULTS).get("linearity", {}) | {"strengths": STRENGTHS, name: result})


def test_draw_how_attributes_follow_the_strength():
    figure, axes = panels(len(TARGETS))
    for axis, name in zip(axes, TARGETS, strict=True):
        axis.plot(STRENGTHS, known(RESULTS)["linearity"][name]["mean"], "o-", color="#0072b2")
        axis.set(title=name.replace("_", " "), xlabel="strength")
    axes[0].set_ylabel("mean score")
    figure.savefig(DOCS / "linearity.png")


def rough(latents: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbouring pixels of each picture `(n,)`."""
    x = latents.clamp(-1, 1)
    return (x.diff(dim=2).abs().mean((1, 2, 3)) + x.diff(dim=3).abs().mean((1, 2, 3))).clamp(min=1e-6)


def test_edits_stack(demo, found):
    plain = demo.scores(SEEDS)
    together = demo.scores(SEEDS, [(found[name], strength) for name, strength in STACK.items()])
    results = {}
    for name, strength in STACK.items():
        index = demo.judge.columns.index(name)
        alone = demo.directions.change(demo.scores(SEEDS, [(found[name], strength)]), plain)[index].item()
        stacked = demo.directions.change(together, plain)[index].item()
        results[name] = {"alone": alone, "stacked": stacked, "ratio": stacked / alone}
        print(name, rounded(results[name]), flush=True)
    edits = [(found[name], strength) for name, strength in STACK.items()]
    orders = [demo.latents(range(7, 9), order) for order in permutations(edits)]
    results["largest difference between orders"] = max((x - orders[0]).abs().max().item() for x in orders)
    remember(RESULTS, "stacking", results)
    rows = []
    for last in range(len(edits) + 1):
        rows.append(demo.latents(SEEDS[:8], edits[:last]))
    cells = torch.stack(rows).clamp(-1, 1).add(1).mul(127.5).round().byte()  # edits, seeds, 3, 64, 64
    sheet = cells.permute(0, 3, 1, 4, 2).reshape(len(rows) * 64, 8 * 64, 3).numpy()
    Image.fromarray(sheet.repeat(2, 0).repeat(2, 1)).save(DOCS / "stacked.jpg", quality=88)


def panels(count: int):
    matplotlib = importlib.import_module("matplotlib.figure")
    figure = matplotlib.Figure(figsize=(2.6 * count, 2.8), dpi=110, layout="constrained")
    return figure, figure.subplots(1, count, sharey=False)
