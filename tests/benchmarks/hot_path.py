"""What injections themselves cost in a call of the UNet, at the bottleneck of SDXL at 1024 pixels.

    python -m pytest -s tests/benchmarks/hot_path.py        (a minute)

Ratios to an addition of two tensors of that size, all measured in turn. Figures: docs/benchmarks.json.
"""

import importlib
from functools import partial

import pytest
import torch
from models import random_direction, sd15, sigmas
from speed import in_turn, ratio, report

pytestmark = pytest.mark.comfy

SHAPE, PROMPTS, TURNS = (1280, 32, 32), 2, 30
COUNTS = 1, 8


def test_what_injections_cost_themselves(pack):
    host, injection = (importlib.import_module(f"{pack.__name__}.nodes.host{name}") for name in ("", ".injection"))
    model = sd15()
    h, other = (torch.randn(PROMPTS, *SHAPE) for _ in range(2))
    options = {"sigmas": sigmas(model, 4)[1:2].expand(PROMPTS), "cond_or_uncond": [0, 1]}
    args = {"h": h, "x": h, "timesteps": torch.full((PROMPTS,), 700.0), "transformer_options": options}
    works = {"an addition": lambda: h + other}
    for count in COUNTS:
        edited = model
        for seed in range(count):
            edited = host.inject(edited, random_direction(pack, model, SHAPE, seed=seed), [1.0])
        works[f"{count}"] = partial(passed, hooks_of(edited), args)
    with injection.sampling_of(model, sigmas(model, 4), edited.model_options):
        times = in_turn(works, TURNS)
    for count in COUNTS:
        report(
            f"{count} {'edit itself' if count == 1 else 'edits themselves'} at SDXL, 1024 px, to one addition",
            ratio(times, f"{count}", "an addition"),
        )
    report("8 edits themselves to 1", ratio(times, "8", "1"))


def hooks_of(edited) -> list:
    return edited.model_options["transformer_options"]["patches"]["middle_block_after_patch"]


def passed(hooks: list, args: dict):
    for hook in hooks:
        args = args | hook(args)
    return args["h"]
