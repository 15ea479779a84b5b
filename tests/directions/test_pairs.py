"""Pairs of which nothing is kept but sums: the direction they make is that of the pairs themselves."""

import pytest
import torch

from directions import PairSums, Source

TIMESTEPS = torch.tensor([900.0, 300.0])
SHAPES = {"middle": (3, 2, 2), "output.3": (2, 4, 4)}
SOURCE = Source("SD15", "0" * 16, "positive", (64, 64))


def trajectories(count: int, seed: int, shift: float = 0.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {site: shift + torch.randn(count, 2, *shape, generator=generator) for site, shape in SHAPES.items()}


def summed(having, lacking, batches) -> PairSums:
    sums = PairSums(TIMESTEPS, SHAPES)
    for batch in batches:
        rows = list(batch)
        sums.add(
            [row % 2 for row in rows], *({site: h[rows] for site, h in each.items()} for each in (having, lacking))
        )
    return sums


def found(sums: PairSums):
    return sums.direction(name="tone", source=SOURCE, recipe="{}")


def test_the_direction_is_the_difference_of_the_means():
    having, lacking = trajectories(10, 0, shift=0.5), trajectories(10, 1)
    direction = found(summed(having, lacking, [range(4), range(4, 10)])).direction
    for site in SHAPES:
        torch.testing.assert_close(direction.deltas[site], having[site].mean(0) - lacking[site].mean(0))


def test_the_spread_of_a_site_is_that_of_all_its_pictures():
    having, lacking = trajectories(10, 0, shift=3.0), trajectories(10, 1)
    direction = found(summed(having, lacking, [range(10)])).direction
    for site in SHAPES:
        expected = torch.cat([having[site], lacking[site]]).flatten(2).var(0).sum(1).sqrt()
        torch.testing.assert_close(direction.spreads[site], expected, rtol=1e-5, atol=0)  # of float32 sums


def test_batches_and_a_file_between_them_change_nothing():
    having, lacking = trajectories(9, 0), trajectories(9, 1)
    whole = summed(having, lacking, [range(9)])
    parts = summed(having, lacking, [range(5)])
    parts = PairSums.of({name: tensor.clone() for name, tensor in parts.tensors().items()})
    parts.add([1, 0, 1, 0], *({site: h[5:] for site, h in each.items()} for each in (having, lacking)))
    assert all(torch.equal(tensor, parts.tensors()[name]) for name, tensor in whole.tensors().items())


def test_halves_agree_as_far_as_the_pairs_share_a_difference():
    noise = trajectories(200, 0)
    alike = {site: h + 1.0 for site, h in noise.items()}
    assert found(summed(alike, noise, [range(200)])).reliability.cosine_overall == pytest.approx(1, abs=1e-6)
    unlike = trajectories(200, 2)
    # two random directions of 44 numbers: a cosine of 1 / sqrt(88) on average
    assert abs(found(summed(unlike, noise, [range(200)])).reliability.cosine_overall) < 0.4


def test_one_pair_makes_a_direction_and_none_does_not():
    having, lacking = trajectories(1, 0), trajectories(1, 1)
    one = found(summed(having, lacking, [range(1)]))
    assert one.reliability is None
    assert torch.equal(one.direction.deltas["middle"], having["middle"][0] - lacking["middle"][0])
    with pytest.raises(ValueError, match="There is no pair"):
        found(PairSums(TIMESTEPS, SHAPES))
