"""The Jacobian at the size of SD 1.5 and SDXL, random weights, float32, CPU: seconds and peak memory.

    python -m pytest -s tests/benchmarks/jacobian_sizes.py        (ten minutes on two cores, 20 GB of memory)

The whole search for k = 3 at 256 pixels; one product of each kind at the size people use, where a search takes as
many. Peak memory is the process's, weights included. Writes docs/jacobian_sizes.json.
"""

import gc
import importlib
import json
import resource
import time

import pytest
import torch
from demo_model import ROOT
from models import FULL, SDXL, conditioning, sd15, sigmas

pytestmark = pytest.mark.comfy

RESULTS = ROOT / "docs" / "jacobian_sizes.json"
CASES = [
    ("SD 1.5", FULL, 768, 256, True),
    ("SD 1.5", FULL, 768, 512, False),
    ("SDXL", SDXL, 2048, 256, True),
    ("SDXL", SDXL, 2048, 1024, False),
]


def test_measure_sizes(pack):
    module = lambda name: importlib.import_module(f"{pack.__name__}.{name}")  # noqa: E731
    results = {}
    for name, layout, context, pixels, search in CASES:
        gc.collect()
        halves = cut(module, sd15(layout), context, pixels)
        results[f"{name}, {pixels} px"] = measured(module, halves, search)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(f"\n{name}, {pixels} px: {results[f'{name}, {pixels} px']}", flush=True)
        del halves


def cut(module, model, context: int, pixels: int):
    import comfy.samplers

    found = []
    schedule = sigmas(model, 2)
    watched = module("nodes.host.split_passes").visit_at_sigmas(
        model, lambda sigma, halves: found.append(halves), {float(schedule[0]): "step 1"}, "positive", "middle"
    )
    with torch.inference_mode():
        module("nodes.host.sampling").sample(
            watched, positive=conditioning(1, context), negative=conditioning(2, context), cfg=1.0,
            sampler=comfy.samplers.sampler_object("euler"), sigmas=schedule[:2],
            latent={"samples": torch.zeros(1, 4, pixels // 8, pixels // 8)}, seeds=[0], on_step=lambda x0: None,
        )  # fmt: skip
    return found[0]


def measured(module, halves, search: bool) -> dict:
    started = time.perf_counter()
    jacobian = halves.jacobian()
    result = {"graph, seconds": since(started)}
    if search:
        started = time.perf_counter()
        found = module("directions").leading_triplets(jacobian, 3)
        result |= {"k = 3, seconds": since(started), "products": found.products}
        result["largest residual"] = float(f"{found.residuals.max():.0e}")
    draw = torch.Generator().manual_seed(0)
    for name, product, shape in (
        ("J v, seconds", jacobian.forward, jacobian.in_shape),
        ("J^T u, seconds", jacobian.transposed, jacobian.out_shape),
    ):
        started = time.perf_counter()
        product(torch.randn(shape, generator=draw))
        result[name] = since(started)
    return result | {"peak memory, GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)}


def since(started: float) -> float:
    return round(time.perf_counter() - started, 1)
