"""What edits, recording, the Jacobian and learning take where ComfyUI computes: `make gpu` runs it on a card.

python -m pytest -s tests/benchmarks/card_speed.py     (on a CPU, a minute, with a tiny model)
"""

import gc
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from models import FULL, SDXL, TINY, sd15, sigmas
from results import remember
from slow.full_size import STEPS, EveryPart, measured_memory
from speed import in_turn, random_direction, ratio, step

pytestmark = [pytest.mark.comfy, pytest.mark.gpu, pytest.mark.slow]

CARD = {"SD 1.5, 512 px": (FULL, 64), "SDXL, 1024 px": (SDXL, 128)}
CPU = {"tiny, 256 px": (TINY, 32)}
SIZES = CARD if torch.cuda.is_available() else CPU
"""Layout and side of the latent."""
TURNS = 10


@pytest.fixture
def results(tmp_path):
    return Path(os.environ.get("HSPACE_GPU_REPORT", tmp_path / "speed.json"))


class AtItsSize(EveryPart):
    """A bank, the Jacobian and a round of learning; without a VAE."""

    def load(self) -> None:
        self.sigmas = sigmas(self.model, STEPS, "simple")

    def run(self) -> None:
        with torch.inference_mode():
            self.load()
            self.record()
            self.learn()
            self.find_jacobian()


@pytest.mark.parametrize("size", SIZES)
def test_what_a_step_takes_with_edits_and_with_recording(pack, host, results, size):
    layout, side = SIZES[size]
    model = sd15(layout, dtype=torch.float16)
    latent, width = torch.zeros(1, 4, side, side), layout["context_dim"]
    watched, recorder = host.record(model, "positive")
    step(watched, latent, width)
    shape = tuple(recorder.trajectory()[1]["middle"].shape[2:])
    models = {"0 edits": model, "1 edit": edited(pack, host, model, shape, 1)}
    models |= {"8 edits": edited(pack, host, model, shape, 8), "recording": host.record(model, "positive")[0]}
    found = {}
    for name, each in models.items():
        with measured_memory() as peak:
            step(each, latent, width)
        found[name] = peak
    times = in_turn({name: partial(finished, each, latent, width) for name, each in models.items()}, TURNS)
    for name in models:
        found[name] |= ratio(times, name, "0 edits") | {"seconds": sum(times[name]) / TURNS}
    remember(results, f"a step, {size}", found)
    print(found)
    del models, model
    gc.collect()


def edited(pack, host, model, shape, count: int):
    for _ in range(count):
        model = host.inject(model, random_direction(pack, {"middle": shape}), [1.0])
    return model


def finished(model, latent, width: int) -> None:
    step(model, latent, width)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@pytest.mark.parametrize("size", SIZES)
def test_what_the_jacobian_and_learning_take(pack, host, words, results, size):
    host.register_folders()
    layout, side = SIZES[size]
    parts = AtItsSize(pack, f"parts, {size}", results, width=layout["context_dim"], pooled=False)
    parts.model, parts.latent = sd15(layout, dtype=torch.float16), {"samples": torch.zeros(1, 4, side, side)}
    parts.run()
