"""The parts of the pack on tiny Stable Diffusion and SDXL, where ComfyUI computes: `make gpu` runs it on a card.

python -m pytest -s tests/slow/every_part.py     (on a CPU, a minute)
"""

import os
from pathlib import Path

import pytest
from models import TINY, TINY_SDXL, sd15, sdxl, sigmas
from slow.full_size import DTYPES, STEPS, EveryPart

pytestmark = [pytest.mark.comfy, pytest.mark.gpu, pytest.mark.slow]

LAYOUTS = {"SD 1.5": (sd15, TINY, False), "SDXL": (sdxl, TINY_SDXL, True)}


class Tiny(EveryPart):
    """With the VAE of the demo faces."""

    picture = 64

    def __init__(self, pack, vae, layout: str, dtype: str, results: Path):
        self.build, settings, pooled = LAYOUTS[layout]
        super().__init__(pack, f"tiny {layout}, {dtype}", results, width=settings["context_dim"], pooled=pooled)
        self.vae, self.dtype = vae, dtype

    def load(self) -> None:
        self.model = self.build(dtype=DTYPES[self.dtype])
        self.sigmas = sigmas(self.model, STEPS, "simple")
        self.figures["family"] = type(self.model.model.model_config).__name__


@pytest.fixture
def results(tmp_path):
    return Path(os.environ.get("HSPACE_GPU_REPORT", tmp_path / "parts.json"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_part_works(pack, words, host, results, layout, dtype):
    host.register_folders()
    Tiny(pack, words.vae, layout, dtype, results).run()
