"""Where a slider from words works best, and how much of its maps it takes: a table of docs/prompted.md.

python -m pytest -s tests/benchmarks/which_sites.py      (half an hour on two cores; -k smile one column)
"""

from dataclasses import replace

import pytest
from dials import WORDS, settle
from prompted_page import SITES
from torch.nn.functional import adaptive_avg_pool2d, interpolate

STRENGTHS = (0.25, 0.5, 1, 2, 4)
CHOICES = {
    "middle": ["middle"],
    "output.3": ["output.3"],
    "output.6": ["output.6"],
    "output.3, output.6": ["output.3", "output.6"],
    "all levels": ["middle", "output.3", "output.6"],
}
GRIDS = {"output.6, grid 16": 16, "output.6, grid 8": 8, "output.6, channel means": 1}

pytestmark = pytest.mark.comfy


def pooled(direction, grid: int):
    """As a bank of this grid would give it: means over places, resized back."""
    deltas = {
        site: interpolate(adaptive_avg_pool2d(delta, grid), size=delta.shape[-2:], mode="bilinear")
        for site, delta in direction.deltas.items()
    }
    return replace(direction, deltas=deltas)


@pytest.mark.parametrize("attribute", WORDS)
@pytest.mark.parametrize("name", [*CHOICES, *GRIDS])
def test_what_a_part_of_a_slider_moves(bench, attribute, name):
    found, _ = bench.slider(attribute)
    part = found.only(CHOICES[name]) if name in CHOICES else pooled(found.only(["output.6"]), GRIDS[name])
    settle(bench, SITES, attribute, name, bench.injected(attribute, part, STRENGTHS))
