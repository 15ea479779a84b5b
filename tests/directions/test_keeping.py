"""What a direction brings along: pictures with a planted share of a thing are found to have it."""

import pytest
import torch

from directions import drift, larger


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("planted", [-0.8, 0.0, 0.3])
def test_a_planted_share_is_found_half_in_each_picture_of_a_pair(planted):
    thing, pair = draws(1, 4, 8, 8), draws(1, 4, 8, 8, seed=1)
    pictures = torch.cat([pair + planted * thing, pair])
    assert drift(pictures, thing.repeat(2, 1, 1, 1)).flatten().tolist() == pytest.approx([planted / 2] * 2, abs=1e-6)


def test_pairs_have_shares_of_their_own():
    thing, plain = draws(4, 4, 8, 8).repeat_interleave(2, 0), draws(4, 4, 8, 8, seed=1).repeat_interleave(2, 0)
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4])
    pictures = plain.clone()
    pictures[::2] += shares.reshape(-1, 1, 1, 1) * thing[::2]
    assert torch.allclose(drift(pictures, thing)[::2].flatten() * 2, shares, atol=1e-6)


def test_more_than_the_whole_thing_counts_as_the_whole():
    thing = draws(2, 4, 8, 8)[:1].repeat(2, 1, 1, 1)
    assert drift(torch.cat([5 * thing[:1], 0 * thing[:1]]), thing).flatten().tolist() == [0.5, 0.5]


def test_what_words_do_not_change_is_not_brought_along():
    assert not drift(draws(2, 4, 8, 8), torch.zeros(2, 4, 8, 8)).any()


def test_the_larger_is_taken_picture_by_picture():
    one, other = torch.ones(2, 1, 2, 2), torch.tensor([0.5, 2.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert torch.equal(larger(one, other)[:, 0, 0, 0], torch.tensor([1.0, 2.0]))
