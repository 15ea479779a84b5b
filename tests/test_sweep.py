"""Sweep Direction and its grid."""

import importlib

import pytest
import torch
from models import sigmas

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def sweep(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.inject.sweep")


@pytest.fixture(scope="module")
def run(pack, sweep):
    """Sweep the demo model with a constant direction of this size."""
    import comfy.samplers

    load = importlib.import_module(f"{pack.__name__}.nodes.capture.load_ddpm")
    directions = importlib.import_module(f"{pack.__name__}.directions")
    model, vae, empty, latent = load.HSpaceLoadDDPM.execute(load.DEMO_MODEL).result

    def run(scale, sampler="euler", strengths="-1, 0, 1", rows=2, batch_size=8, first_seed=5, difference=False):
        direction = directions.Direction(
            delta=scale * torch.randn(1, 128, 8, 8, generator=torch.Generator().manual_seed(0)),
            timesteps=torch.tensor([0.0]),
            name="random",
            method="random",
            unit="one",
            source=directions.Source("DDPM", "0", "positive", (64, 64)),
            recipe="{}",
        )
        grid, pictures, strip = sweep.HSpaceSweep.execute(
            model, empty, empty, comfy.samplers.sampler_object(sampler), sigmas(model, 3), latent, vae, direction,
            strengths, rows, first_seed, batch_size, 1.0, 64, 0.0, 1.0, "both", "resize", None, difference,
        ).result  # fmt: skip
        assert strip.shape == (1, sweep.STRIP_SIZE, sweep.STRIP_SIZE * len(pictures) // rows, 3)
        return grid, pictures.unflatten(0, (rows, -1))

    return run


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m_sde"])
def test_every_strength_of_a_seed_sees_the_same_noise(run, sampler):
    _, pictures = run(0.0, sampler)
    for column in (1, 2):
        # a batch's rows may differ in the last bits, by where they lie in the kernels' blocks
        torch.testing.assert_close(pictures[:, 0], pictures[:, column], atol=1e-4, rtol=0)
    assert not torch.allclose(pictures[0], pictures[1], atol=0.05)


def test_strengths_change_the_picture_to_opposite_sides(run):
    _, pictures = run(1.0)
    minus, zero, plus = pictures.unbind(1)
    assert ((minus - zero) * (plus - zero)).mean() < 0


def test_the_pictures_do_not_depend_on_the_batch(run):
    _, whole = run(1.0, "euler_ancestral", batch_size=6)
    _, single = run(1.0, "euler_ancestral", batch_size=1)
    torch.testing.assert_close(whole, single, atol=2e-3, rtol=0)  # of a picture's range of 1


def test_the_grid_has_a_picture_for_each_seed_and_strength(run):
    grid, pictures = run(1.0, strengths="-2, -1, 0, 1", rows=3)
    assert pictures.shape == (3, 4, 64, 64, 3)
    assert grid.shape[0] == 1
    assert grid.shape[1] > 3 * 64
    assert grid.shape[2] > 4 * 64
    # each picture is found again in the grid, to a pixel's rounding
    strips = grid[0].unfold(0, 64, 1).unfold(1, 64, 1)
    for picture in (pictures[0, 0], pictures[2, 3]):
        rounded = picture.clamp(0, 1).mul(255).round().div(255).permute(2, 0, 1)
        distance = (strips[..., ::8, ::8] - rounded[:, ::8, ::8]).abs().amax((2, 3, 4))
        assert distance.min() < 1e-6


def test_a_difference_adds_a_column_that_is_white_where_nothing_changes(run):
    grid, _ = run(1.0)
    mapped, _ = run(1.0, difference=True)
    assert mapped.shape[1] == grid.shape[1]
    assert mapped.shape[2] == grid.shape[2] + 64 + 2
    unchanged, _ = run(0.0, difference=True)
    assert (unchanged[0, -66:-10, -66:-10] == 1).all()
    assert (mapped[0, -66:-10, -66:-10, 0] < 0.9).any()


def test_a_difference_needs_the_picture_without_the_edit(run):
    with pytest.raises(ValueError, match="Add 0 to them"):
        run(1.0, strengths="-1, 1", difference=True)
