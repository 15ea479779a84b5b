"""Learnt directions against mean differences: effect, what else they change, and time. The demo model.

    python -m pytest -s tests/benchmarks/learn.py        (a quarter of an hour on two cores)

Three attributes. Both kinds are injected into 100 fresh seeds, at strength 1 and at the one that moves the target by
one standard deviation on other seeds; directions with the others held, and without. Writes docs/learn.json.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_faces import folder_of
from demo_model import ROOT, STEPS, DemoModel
from results import rounded

pytestmark = pytest.mark.comfy

RESULTS = ROOT / "docs" / "learn.json"
TARGETS = ("smile", "age", "glasses")
HELD = ("smile", "age", "glasses", "beard", "hair_length", "skin", "background", "yaw")
TRAJECTORIES, EXAMPLES, COUNT, BATCH, ROUNDS = 1000, 200, 64, 16, 24
SEEDS, CALIBRATION_SEEDS = range(5_000_000, 5_000_100), range(5_100_000, 5_100_050)
STRENGTHS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)


@pytest.fixture(scope="module")
def demo(pack, tmp_path_factory):
    return DemoModel(pack, Path(os.environ.get("HSPACE_BENCHMARK_BANKS", tmp_path_factory.mktemp("banks"))))


def test_learnt_against_mean_difference(demo, tmp_path):
    started = time.perf_counter()
    bank = demo.recorded(TRAJECTORIES)
    scores = demo.scores_of(bank)
    sampled = time.perf_counter() - started
    find = lambda name, **how: demo.directions.find_from_scores(bank, scores, name, examples=EXAMPLES, **how)  # noqa: E731
    finders = {
        "examples": lambda name: find(name, method="examples"),
        "regression, others held": lambda name: find(name, others=HELD),
        "learnt, constant": lambda name: learnt(demo, name, [], "constant", tmp_path),
        "learnt, constant, others held": lambda name: learnt(demo, name, others(name), "constant", tmp_path),
        "learnt, each timestep, others held": lambda name: learnt(demo, name, others(name), "each timestep", tmp_path),
    }
    plain, results = demo.scores(SEEDS), {"bank, seconds": sampled}
    for finder, make in finders.items():
        for name in TARGETS:
            started = time.perf_counter()
            made = make(name)
            direction = getattr(made, "direction", made)
            seconds = time.perf_counter() - started
            strength = calibrated(demo, direction, name)
            row = {"seconds": seconds, "strength of one sd": strength}
            for label, applied in (("at 1", 1.0), ("at one sd", strength)):
                change = demo.directions.change(demo.scores(SEEDS, [(direction, applied)]), plain)
                row[label] = effect(demo, name, change)
            results.setdefault(finder, {})[name] = row
            RESULTS.write_text(json.dumps(rounded(results), indent=1) + "\n")
            print(finder, name, rounded(row), flush=True)


def others(name: str) -> list[str]:
    return [held for held in HELD if held != name]


def learnt(demo, name: str, held: list[str], span: str, folder):
    judge = demo.module("nodes.host.objective").classifier_objective(demo.judge, name, held)
    node = demo.node("HSpaceLearnDirection")
    with folder_of("hspace_banks", folder), torch.inference_mode():
        return node.execute(
            demo.model, demo.empty, demo.empty, demo.settings["sampler"], demo.sigmas(STEPS), demo.latent, demo.vae,
            judge, name, span, COUNT, 0, ROUNDS, 0.02, 1.0, BATCH, 1.0, "positive",
        ).result[0]  # fmt: skip


def calibrated(demo, direction, name: str) -> float:
    """The strength at which it moves its attribute by one standard deviation; the last one if it never does."""
    plain, column = demo.scores(CALIBRATION_SEEDS), demo.judge.columns.index(name)
    moved = [0.0] + [
        demo.directions.change(demo.scores(CALIBRATION_SEEDS, [(direction, s)]), plain)[column].item()
        for s in STRENGTHS[1:]
    ]
    return float(np.interp(1.0, np.maximum.accumulate(moved), STRENGTHS))


def effect(demo, name: str, change) -> dict:
    """Change of the target and of what is held, in standard deviations of the unedited pictures."""
    table = dict(zip(demo.judge.columns, change.tolist(), strict=True))
    return {
        "on": table[name],
        "off": sum(abs(table[held]) for held in others(name)) / (len(HELD) - 1),
        "largest other": max(others(name), key=lambda held: abs(table[held])),
        "changes": table,
    }
