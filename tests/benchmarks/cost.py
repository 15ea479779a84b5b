"""What injecting and recording cost: step times of an SD 1.5-size UNet with and without, in turn, in one run.

python -m pytest tests/benchmarks/cost.py -s          (three minutes on two cores; random weights, float32, 256 px)
"""

import importlib
import statistics
import time

import pytest
import torch
from models import FULL, conditioning, sd15

pytestmark = pytest.mark.comfy

ROUNDS = 15


def test_measure_cost(pack):
    unet = importlib.import_module(f"{pack.__name__}.nodes.unet")
    directions = importlib.import_module(f"{pack.__name__}.directions")
    model = sd15(FULL)
    latent = torch.randn(1, 4, 32, 32)
    timesteps = torch.linspace(999, 0, 20)
    direction = directions.Direction(
        delta=torch.randn(20, 1280, 4, 4), timesteps=timesteps, name="d", method="random", unit="one",
        source=directions.Source("SD15", "0", "positive", (256, 256)), recipe="{}",
    )  # fmt: skip
    variants = {
        "plain": model,
        "injecting": unet.inject(model, direction, [1.0]),
        "recording": unet.record(model, "positive")[0],
    }
    times, calls = {name: [] for name in variants}, dict.fromkeys(variants, 0)
    for _ in range(ROUNDS):
        for name, variant in variants.items():
            seconds, n = step(variant, latent)
            times[name].append(seconds)
            calls[name] += n
    assert calls["injecting"] == calls["recording"] == calls["plain"]
    for name in ("injecting", "recording"):
        ratios = [a / b for a, b in zip(times[name], times["plain"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        print(
            f"\n{name}: {statistics.median(ratios):.4f} times a plain step (quartiles {low:.4f} to {high:.4f}, "
            f"{ROUNDS} pairs, plain {statistics.median(times['plain']):.2f} s, {calls[name]} UNet calls as plain)"
        )


def step(model, latent) -> tuple[float, int]:
    """Seconds of one sampling step at cfg 7 and how often the UNet was called."""
    import comfy.samplers

    calls = []
    model = model.clone()
    model.set_model_unet_function_wrapper(
        lambda apply, args: calls.append(1) or apply(args["input"], args["timestep"], **args["c"])
    )
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(1, 768), conditioning(2, 768))
    guider.set_cfg(7.0)
    started = time.perf_counter()
    guider.sample(
        torch.randn_like(latent),
        torch.zeros_like(latent),
        comfy.samplers.sampler_object("euler"),
        torch.tensor([5.0, 0.0]),
        seed=0,
        disable_pbar=True,
    )
    return time.perf_counter() - started, len(calls)
