"""Draw Demo Faces."""

import importlib

import numpy as np
import pytest
import torch

from demo.faces import render_batch

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def draw(pack):
    node = importlib.import_module(f"{pack.__name__}.nodes.capture.draw_faces").HSpaceDrawFaces
    return lambda count, seed, fixed="": node.execute(count, seed, fixed).result[0]


def test_they_are_the_faces_of_the_demo_data(draw):
    pictures = draw(3, 7)
    assert torch.equal(pictures, torch.from_numpy(render_batch(3, 7)[0]) / 255)
    assert not np.array_equal(pictures[0], pictures[1])


def test_what_is_fixed_changes_and_nothing_else_of_it(draw):
    plain, bearded = draw(8, 7, "glasses = 0, beard = 0"), draw(8, 7, "beard = 1, glasses = 0")
    change = (bearded - plain).abs().amax((0, 3))  # of every row and column
    assert change[44:].max() > 0.2
    assert change[:20].max() == 0
    assert torch.equal(plain, draw(8, 7, "beard=0,glasses=0"))
