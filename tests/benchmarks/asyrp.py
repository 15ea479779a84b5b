"""Asyrp against the symmetric edit: time of a step, the number of steps, and until when to edit. The demo model.

    python -m pytest -s tests/benchmarks/asyrp.py        (ten minutes on two cores)

Writes docs/asyrp.json and docs/asyrp.png.
"""

import importlib
import os
import time
from pathlib import Path

import pytest
import torch
from demo_model import ROOT, DemoModel
from results import remember

pytestmark = pytest.mark.comfy

DOCS = ROOT / "docs"
RESULTS = DOCS / "asyrp.json"
SEEDS, STEPS = range(6_000_000, 6_000_032), (5, 10, 20, 40)
STRENGTHS = {"smile": 0.1, "age": 0.06}
PAIRS = 12
UNTIL = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)


@pytest.fixture(scope="module")
def demo(pack, tmp_path_factory):
    return DemoModel(pack, Path(os.environ.get("HSPACE_BENCHMARK_BANKS", tmp_path_factory.mktemp("banks"))))


@pytest.fixture(scope="module")
def found(demo):
    bank = demo.recorded(1000)
    scores, held = (
        demo.scores_of(bank),
        ("smile", "glasses", "age", "beard", "hair_length", "skin", "background", "yaw"),
    )
    return {
        name: demo.directions.find_from_scores(bank, scores, name, examples=200, others=held).direction
        for name in STRENGTHS
    }


def asyrp(demo, direction, strength: float, until: float = 1.0):
    node = demo.node("HSpaceAsyrpSampler")
    return node.execute(direction, strength, until, 1.0, "both", "resize").result[0]


def test_time_of_a_step(demo, found):
    """Pairs in one run: the median of their ratios. Edited at every step, and until the default half."""
    import comfy.samplers

    euler, seeds = comfy.samplers.sampler_object("euler"), SEEDS[:4]
    symmetric = lambda: demo.latents(seeds, [(found["smile"], 0.1)], sampler=euler)  # noqa: E731
    results = {}
    for name, until in (("every step", 1.0), ("until 0.5", 0.5)):
        sampler = asyrp(demo, found["smile"], 0.1, until)
        ratios = []
        for _ in range(PAIRS):
            times = [timed(symmetric), timed(lambda: demo.latents(seeds, sampler=sampler))]  # noqa: B023
            ratios.append(times[1] / times[0])
        quartiles = torch.tensor(ratios).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
        results[name] = quartiles
        print(f"Asyrp, {name}: {quartiles[1]:.2f} times the symmetric edit's time (quartiles {quartiles})", flush=True)
    remember(RESULTS, "time", results)


def timed(run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def test_the_number_of_steps(pack, demo, found):
    """Change of the attribute by the same strength at other numbers of steps."""
    import comfy.samplers

    euler, results = comfy.samplers.sampler_object("euler"), {}
    for name, strength in STRENGTHS.items():
        column = demo.judge.columns.index(name)
        for steps in STEPS:
            run = dict(sigmas=demo.sigmas(steps))
            plain = demo.scores(SEEDS, sampler=euler, **run)
            edits = {
                "symmetric": demo.scores(SEEDS, [(found[name], strength)], sampler=euler, **run),
                "Asyrp": demo.scores(SEEDS, sampler=asyrp(demo, found[name], strength), **run),
                "Asyrp, scaled by 10 / steps": demo.scores(
                    SEEDS, sampler=asyrp(demo, found[name], strength * 10 / steps), **run
                ),
            }
            for kind, scores in edits.items():
                moved = demo.directions.change(scores, plain)[column].item()
                results.setdefault(name, {}).setdefault(kind, []).append(moved)
            print(name, steps, {kind: round(moved[-1], 3) for kind, moved in results[name].items()}, flush=True)
    remember(RESULTS, "steps", {"steps": STEPS, "strengths": STRENGTHS, **results})
    draw(results)


def test_until_when_an_edit_counts(demo, found):
    """What an edit until `edit_until` changes of its attribute, and of the others, at 20 steps."""
    results: dict[str, dict] = {}
    for name, strength in STRENGTHS.items():
        column, run = demo.judge.columns.index(name), dict(sigmas=demo.sigmas(20))
        plain = demo.scores(SEEDS, sampler=asyrp(demo, found[name], 0.0), **run)
        for until in UNTIL:
            edited = demo.scores(SEEDS, sampler=asyrp(demo, found[name], strength, until), **run)
            change = demo.directions.change(edited, plain)
            off = (change.abs().sum() - change[column].abs()) / (len(change) - 1)
            results.setdefault(name, {})[f"{until:g}"] = {"change": change[column].item(), "off": off.item()}
            print(name, until, results[name][f"{until:g}"], flush=True)
    remember(RESULTS, "until", results)


def draw(results: dict) -> None:
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(8, 3), dpi=110, layout="constrained")
    colours = dict(zip(next(iter(results.values())), ("#0072b2", "#d55e00", "#009e73"), strict=True))
    for axis, (name, kinds) in zip(figure.subplots(1, len(results)), results.items(), strict=True):
        for kind, moved in kinds.items():
            axis.plot(STEPS, moved, "o-", color=colours[kind], label=kind)
        axis.set(title=f"{name}, strength {STRENGTHS[name]:g}", xlabel="steps", xscale="log", ylim=(0, None))
        axis.set_xticks(STEPS, STEPS)
        axis.minorticks_off()
        axis.set_ylabel("change, standard deviations")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(DOCS / "asyrp.png")
