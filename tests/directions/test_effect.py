"""How far an edit takes pictures along a way, how far aside, and up to where it is usable."""

import pytest
import torch

from directions import gone_along, gone_aside, usable_in_sweep, usable_range


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, -2.0])
def test_pictures_that_go_straight_go_along_by_their_share_and_not_aside(share):
    plain, way = draw(0, 4, 8, 8, 3), draw(1, 8, 8, 3)
    edited = plain + share * way
    torch.testing.assert_close(gone_along(edited, plain, way), torch.full((4,), share).double(), atol=1e-6, rtol=0)
    assert gone_aside(edited, plain, way).max() < 1e-6


def test_a_picture_that_becomes_another_goes_aside_as_far_as_pictures_are_apart():
    """Random pictures of many numbers are all as far from each other, and at right angles to any way."""
    plain, way = draw(0, 6, 40, 40, 3), draw(1, 40, 40, 3)
    edited = plain.roll(1, 0) + 0.7 * way
    torch.testing.assert_close(gone_aside(edited, plain, way), torch.ones(6).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(gone_along(edited, plain, way), torch.full((6,), 0.7).double(), atol=0.1, rtol=0)


def test_one_picture_does_not_say_how_far_pictures_are_apart():
    with pytest.raises(ValueError, match="needs two of them: got 1"):
        gone_aside(draw(0, 1, 2, 2, 3), draw(1, 1, 2, 2, 3), draw(2, 2, 2, 3))


STRENGTHS = [-2, -1, -0.5, 0.5, 1, 2, 4]


@pytest.mark.parametrize(
    ("along", "aside", "usable"),
    [
        # straight and steady
        ([-2, -1, -0.5, 0.5, 1, 2, 4], [0.4, 0.2, 0.1, 0.1, 0.2, 0.4, 0.8], (-2, 4)),
        # it saturates at 2, and is turned back at -2
        ([-0.8, -1, -0.5, 0.5, 1, 1.5, 1.5], [0.4, 0.2, 0.1, 0.1, 0.2, 0.4, 0.8], (-1, 2)),
        # pictures fall apart at 2
        ([-2, -1, -0.5, 0.5, 1, 2, 4], [0.4, 0.2, 0.1, 0.1, 0.2, 0.8, 2], (-2, 1)),
        # it does the opposite, or nothing
        ([2, 1, 0.5, -0.5, -1, -2, -4], [0.1] * 7, (0, 0)),
        ([0] * 7, [0.1] * 7, (0, 0)),
    ],
)
def test_an_edit_is_usable_while_it_goes_on_and_not_aside(along, aside, usable):
    assert usable_range(STRENGTHS, along, aside) == usable
    shuffled = [3, 0, 6, 2, 5, 1, 4]
    assert usable_range(*([each[i] for i in shuffled] for each in (STRENGTHS, along, aside))) == usable


def test_a_sweep_of_one_side_says_nothing_of_the_other():
    assert usable_range([1, 2], [1, 2], [0.1, 0.2]) == (0, 2)


def test_a_sweep_in_which_pictures_turn_into_noise_is_usable_up_to_there():
    plain, way, noise = draw(0, 3, 8, 8, 3), draw(1, 8, 8, 3), draw(2, 3, 8, 8, 3)
    strengths = [-1, 0, 1, 2, 3]
    pictures = [plain + s * way + (0.1 * abs(s) if s < 3 else 5) * noise for s in strengths]
    assert usable_in_sweep(torch.stack(pictures, 1), strengths) == (-1, 2)


@pytest.mark.parametrize(("rows", "strengths"), [(1, [0, 1]), (3, [1, 2]), (3, [0])])
def test_a_sweep_that_can_not_tell_says_nothing(rows, strengths):
    assert usable_in_sweep(draw(0, rows, len(strengths), 4, 4, 3), strengths) is None
