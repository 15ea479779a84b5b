"""Sweep Directions and its grid."""

import pytest
import torch
from models import Probe, core_sample

pytestmark = pytest.mark.comfy

STRIP_SIZE = 96
"""Longer side of a picture of the strip, in pixels."""


@pytest.fixture
def sweep(faces):
    """Sweep the demo model over a direction or a set."""
    import comfy.samplers

    def sweep(direction, sampler="euler", strengths="-1, 0, 1", rows=2, model=faces.model, **changed):
        options = dict(first_seed=5, batch_size=8, picture_size=64) | changed
        grid, pictures, strip, *_ = faces.node("HSpaceSweep").execute(
            model, faces.empty, faces.empty, comfy.samplers.sampler_object(sampler), faces.sigmas(3), faces.latent,
            faces.vae, direction, strengths, rows, cfg=1.0, start_percent=0.0, end_percent=1.0, apply_to="both",
            fit="resize", **options,
        ).result  # fmt: skip
        columns = strengths.count(",") + 1
        assert strip.shape == (1, STRIP_SIZE, STRIP_SIZE * columns, 3)
        return grid, pictures.unflatten(0, (-1, columns))

    return sweep


@pytest.fixture
def run(faces, sweep):
    """Sweep the demo model over one direction of this size."""
    return lambda scale, *arguments, **options: sweep(faces.direction("random", 0, scale), *arguments, **options)


@pytest.fixture
def found(faces):
    """A set of three directions."""
    directions = tuple(faces.direction(name, seed, 1.0) for seed, name in enumerate(("age", "smile", "pose")))
    spectrum = torch.tensor([3.0, 2.0, 1.0]).double()[:, None].expand(3, 3)
    return faces.directions.DirectionSet(directions, spectrum, "explained variance ratio")


def plain_picture(faces, seed, steps=3):
    """What ComfyUI's own sampler makes with euler, without this pack."""
    latents = core_sample(faces.model, "euler", faces.sigmas(steps), faces.empty, faces.empty, faces.latent, seed)
    return faces.vae.decode(latents)[0]


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


def test_a_difference_needs_no_strength_0_among_the_strengths(run):
    (with_zero, _), (without, pictures) = (run(1.0, strengths=text, difference=True) for text in ("-1, 0, 1", "-1, 1"))
    assert pictures.shape[:2] == (2, 2)
    # of one seed in either sheet, whose pictures differ in the last bits by where they lie in the batch
    torch.testing.assert_close(without[0, -66:-10, -66:-10], with_zero[0, -66:-10, -66:-10], atol=0.05, rtol=0)


def test_strength_0_is_the_plain_picture_bit_for_bit(faces, sweep, found):
    plain = plain_picture(faces, 5)
    _, pictures = sweep(found, rows=1, batch_size=1)
    assert all(torch.equal(row[1], plain) for row in pictures)
    _, (row,) = sweep(found[0], rows=1, batch_size=1)
    assert torch.equal(row[1], plain)


def test_strength_0_of_a_seed_is_sampled_once_and_all_pictures_in_full_batches(faces, sweep, found):
    counter = Probe()
    model = faces.model.clone()
    model.set_model_middle_block_after_patch(counter)
    _, pictures = sweep(found, model=model, strengths="-1, 0, 1, 0", difference=True)
    assert pictures.shape[:2] == (6, 4)
    sampled = 2 * (1 + 3 * 2)  # a seed: once plain, and each direction at -1 and 1
    steps = len(faces.sigmas(3)) - 1
    assert [len(h) for h in counter.h] == [8] * steps + [sampled - 8] * steps


def test_the_pictures_of_a_set_are_those_of_single_sweeps(sweep, found):
    # in batches of one: else a picture's last bits depend on where it lies in the batch
    _, pictures = sweep(found, "euler_ancestral", batch_size=1)
    singles = torch.stack([sweep(each, "euler_ancestral", batch_size=1)[1] for each in found], 1)
    assert torch.equal(pictures, singles.flatten(0, 1))  # each seed with each direction
    _, together = sweep(found, "euler_ancestral", batch_size=8)
    torch.testing.assert_close(together, pictures, atol=2e-3, rtol=0)  # of a picture's range of 1


def test_a_set_is_shown_from_the_first_asked_for_to_the_most_asked_for(sweep, found):
    _, whole = sweep(found, rows=1, batch_size=1)
    _, second = sweep(found, rows=1, batch_size=1, first=2, most=1)
    assert torch.equal(second[0], whole[1])
    _, rest = sweep(found, rows=1, batch_size=1, first=2)
    assert torch.equal(rest, whole[1:])
    with pytest.raises(ValueError, match="holds 3"):
        sweep(found, first=4)


def test_rows_are_labelled_with_the_number_that_pick_direction_takes(faces, found):
    words = faces.module("nodes.inject.sweep").words
    shown = {2: found[1], 3: found[2]}
    assert words(found[1], range(5, 7), {1: found[1]}) == ("smile", ["seed 5", "seed 6"])
    assert words(found, range(5, 6), shown) == ("seed 5", ["2: smile", "3: pose"])
    assert words(found, range(5, 7), shown) == (
        "seeds 5 to 6",
        ["seed 5, 2: smile", "seed 5, 3: pose", "seed 6, 2: smile", "seed 6, 3: pose"],
    )
    assert faces.node("HSpacePickDirection").execute(found, 2, "", False).result[0] == found[1]


def test_difference_maps_are_white_where_nothing_changes_and_bluest_where_most_does(faces):
    plain = torch.zeros(1, 4, 4, 3)
    edited = torch.zeros(2, 2, 4, 4, 3)
    edited[0, 1, 0, 0], edited[1, 0, 1, 1] = 252 / 255, 63 / 255  # whole steps of 8 bits
    maps = faces.module("nodes.ui").difference_maps(edited, plain)
    assert maps.shape == (2, 4, 4, 3)
    assert (maps[0, 3] == 1).all()
    full = 1 - torch.tensor([0, 0x72, 0xB2]) / 255
    torch.testing.assert_close(1 - maps[0, 0, 0], full)
    torch.testing.assert_close(1 - maps[1, 1, 1], 0.5 * full)
