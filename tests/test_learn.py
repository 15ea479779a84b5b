"""The losses of objectives, the order of learning, and the learner."""

import pytest
import torch

from directions import Learner, clip_directional_loss, minibatch, score_shift_loss


def test_a_picture_that_did_as_asked_has_no_loss_and_others_their_squared_error():
    plain = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    spread, end = torch.tensor([0.5, 9.0, 9.0]), torch.tensor([2.0, 1.0, 4.0])
    asked = torch.tensor([0.5, 0.0, 0.0])
    torch.testing.assert_close(score_shift_loss(plain + asked, plain, spread, end), torch.zeros(4))
    off = asked + torch.tensor([2.0, 0.0, 4.0])
    torch.testing.assert_close(score_shift_loss(plain + off, plain, spread, end), torch.full((4,), 2.0))


def test_the_directional_loss_is_0_along_the_text_2_against_it_and_1_across():
    text, plain = torch.tensor([3.0, 0.0]), torch.tensor([[1.0, 1.0]])
    for move, loss in (([0.1, 0.0], 0.0), ([-5.0, 0.0], 2.0), ([0.0, 1.0], 1.0)):
        torch.testing.assert_close(
            clip_directional_loss(plain + torch.tensor([move]), plain, text), torch.tensor([loss])
        )


@pytest.mark.parametrize("size", [1, 3, 10, 64])
def test_every_picture_comes_once_before_any_comes_again(size):
    batches = -(-10 // size)
    first, second = ([minibatch(10, size, epoch * batches + i) for i in range(batches)] for epoch in range(2))
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(10))
    assert max(map(len, first)) <= size
    assert size == 10 or size == 64 or first != second


def towards(learner: Learner, row: int, target: torch.Tensor, steps: int) -> None:
    for _ in range(steps):
        learner.step(row, (learner.delta(row) - target).square().sum())


def test_it_finds_a_planted_delta_and_leaves_other_rows_alone():
    target = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(1))
    learner = Learner((3, 2, 2), torch.tensor([2.0, 0.5]), rate=0.05)
    untouched = learner.deltas()[1]
    towards(learner, 0, target, 400)
    torch.testing.assert_close(learner.deltas()[0], target, atol=1e-3, rtol=0)  # Adam circles by its rate at most
    assert torch.equal(learner.deltas()[1], untouched)


def test_a_restored_learner_goes_on_to_the_bit():
    target = torch.ones(3, 2, 2)
    whole, before, after = (Learner((3, 2, 2), torch.ones(2), rate=0.1) for _ in range(3))
    towards(whole, 0, target, 9)
    towards(before, 0, target, 4)
    before.losses.append(0.5)
    after.load_state_dict({name: tensor.clone() for name, tensor in before.state_dict().items()})
    towards(after, 0, target, 5)
    assert torch.equal(after.deltas(), whole.deltas())
    assert after.losses == [0.5]


def test_a_loss_scaled_for_half_precision_moves_it_alike():
    target = torch.ones(3, 2, 2)
    plain, scaled = (Learner((3, 2, 2), torch.ones(1), rate=0.1) for _ in range(2))
    towards(plain, 0, target, 1)
    scaled.step(0, (scaled.delta(0) - target).square().sum(), 1024.0)
    assert torch.equal(plain.deltas(), scaled.deltas())


def test_a_gradient_that_is_no_number_is_refused_before_it_does_harm():
    learner = Learner((3, 2, 2), torch.ones(1), rate=0.1)
    before = learner.deltas()
    with pytest.raises(ValueError, match="gradient of the objective is not finite"):
        learner.step(0, learner.delta(0).sum() * torch.nan)
    assert torch.equal(learner.deltas(), before)
