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


def step(learner: Learner, row: int, loss: torch.Tensor) -> None:
    learner.step(row, learner.gradient(row, loss), float(loss))


def towards(learner: Learner, row: int, target: torch.Tensor, steps: int) -> None:
    for _ in range(steps):
        step(learner, row, (learner.delta(row) - target).square().sum())


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


def half_decoder(gain: float) -> torch.nn.Module:
    """Doubles what is given, in float16; `gain` is of what its gradient goes through."""
    decoder = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False)).half()
    for layer, factor in zip(decoder, (gain, 2 / gain), strict=True):
        layer.weight.data = factor * torch.eye(4).half()
    return decoder.requires_grad_(False)


def through(decoder, learner: Learner, target: torch.Tensor, weight: float = 1.0) -> torch.Tensor:
    """A float32 loss of what a float16 decoder makes of the delta."""
    return weight * (decoder(learner.delta(0).half()).float() - target).square().mean()


def test_a_gradient_that_float16_would_lose_is_followed():
    """The weight stands for a loss over all the numbers of a picture: each gradient is under float16's 6e-8."""
    learner, target = Learner((4,), torch.ones(1), rate=0.05), torch.tensor([1.0, -0.5, 0.25, 2.0])
    decoder = half_decoder(1.0)
    (lost,) = torch.autograd.grad(through(decoder, learner, target, 1e-9), learner.rows[0])
    assert not lost.any()
    for _ in range(300):
        step(learner, 0, through(decoder, learner, target, 1e-9))
    torch.testing.assert_close(learner.deltas()[0], target / 2, atol=5e-3, rtol=0)  # float16 keeps 1e-3 of a number


def test_after_an_overflow_the_scale_falls_until_it_fits_and_learning_goes_on():
    learner, target = Learner((4,), torch.ones(1), rate=0.05), torch.tensor([1.0, -0.5, 0.25, 2.0])
    decoder = half_decoder(1024.0)  # its gradient times 65536 is over 65504, the largest of float16
    before = learner.deltas()
    step(learner, 0, through(decoder, learner, target))
    assert torch.equal(learner.deltas(), before)
    for _ in range(300):
        step(learner, 0, through(decoder, learner, target))
    torch.testing.assert_close(learner.deltas()[0], target / 2, atol=5e-3, rtol=0)  # float16 keeps 1e-3 of a number


def test_an_overflow_that_no_scale_mends_is_refused_after_twenty():
    learner = Learner((4,), torch.ones(1), rate=0.05)
    before = learner.deltas()
    decoder = half_decoder(1.0)
    for _ in range(19):
        step(learner, 0, through(decoder, learner, torch.ones(4), 1e9))
    with pytest.raises(ValueError, match="gradient of the objective is not finite"):
        step(learner, 0, through(decoder, learner, torch.ones(4), 1e9))
    assert torch.equal(learner.deltas(), before)


def test_a_learner_restored_after_an_overflow_goes_on_to_the_bit():
    target, decoder = torch.tensor([1.0, -0.5, 0.25, 2.0]), half_decoder(1024.0)
    whole, before, after = (Learner((4,), torch.ones(1), rate=0.05) for _ in range(3))
    for learner, steps in ((whole, 12), (before, 3)):
        for _ in range(steps):
            step(learner, 0, through(decoder, learner, target))
    after.load_state_dict({name: tensor.clone() for name, tensor in before.state_dict().items()})
    for _ in range(9):
        step(after, 0, through(decoder, after, target))
    assert not torch.equal(before.deltas(), Learner((4,), torch.ones(1), rate=0.05).deltas())
    assert torch.equal(after.deltas(), whole.deltas())


@pytest.mark.parametrize("scaler", [[-1.0, 0.0], [65536.0, -1.0], [65536.0, 1e30], [torch.inf, 0.0], [65536.0]])
def test_a_scale_that_never_was_is_refused(scaler):
    learner = Learner((3, 2, 2), torch.ones(1), rate=0.1)
    towards(learner, 0, torch.ones(3, 2, 2), 2)
    before = learner.state_dict()
    with pytest.raises(ValueError, match="got "):
        Learner((3, 2, 2), torch.ones(1), rate=0.1).load_state_dict({**before, "scaler": torch.tensor(scaler)})


def test_going_on_from_a_state_leaves_the_state_as_it_is():
    before, after = (Learner((3, 2, 2), torch.ones(1), rate=0.1) for _ in range(2))
    towards(before, 0, torch.ones(3, 2, 2), 2)
    state = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    after.load_state_dict(state)
    towards(after, 0, torch.ones(3, 2, 2), 1)
    assert all(torch.equal(state[name], tensor) for name, tensor in before.state_dict().items())


def test_a_gradient_that_is_no_number_is_refused_before_it_does_harm():
    learner = Learner((3, 2, 2), torch.ones(1), rate=0.1)
    before = learner.deltas()
    with pytest.raises(ValueError, match="gradient of the objective is not finite"):
        step(learner, 0, learner.delta(0).sum() * torch.nan)
    assert torch.equal(learner.deltas(), before)
