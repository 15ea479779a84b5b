"""How strong a direction is, when and where."""

import pytest
import torch

from directions import Direction, Source, layout, norms


def direction(delta: torch.Tensor) -> Direction:
    return Direction(
        deltas={"middle": delta}, timesteps=torch.arange(len(delta), 0, -1).float(), name="d", method="m", unit="u",
        source=Source("DDPM", "0", "positive", (64, 64)), recipe="{}",
    )  # fmt: skip


def test_norms_are_those_of_the_delta_at_each_timestep():
    delta = torch.zeros(2, 3, 2, 2)
    delta[0, 0, 0, 0], delta[0, 2, 1, 1], delta[1, 1, 1, 0] = 3.0, 4.0, 2.0
    assert norms(direction(delta)).tolist() == [5.0, 2.0]


def test_the_layout_is_the_share_of_each_place():
    delta = torch.zeros(2, 3, 2, 2)
    delta[0, :, 0, 1], delta[1, 0, 1, 0] = 1.0, 1.0
    assert layout(direction(delta)).tolist() == [[0.0, 0.75], [0.25, 0.0]]


def test_shares_add_up_to_one_and_do_not_depend_on_the_strength():
    delta = torch.randn(4, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    assert layout(direction(delta)).sum().item() == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(layout(direction(delta)), layout(direction(-7 * delta)), rtol=1e-5, atol=0)


def test_sites_count_in_their_own_spread():
    """What is as far as h varies is as much at each site, whatever its unit and the size of its map."""
    small, large = torch.zeros(1, 2, 2, 2), torch.zeros(1, 1, 4, 4)
    small[0, 0, 0, 0], large[0, 0, 3, 3] = 3.0, 600.0
    both = Direction(
        deltas={"middle": small, "output.3": large}, timesteps=torch.zeros(1), name="d", method="m", unit="u",
        source=Source("DDPM", "0", "positive", (64, 64)), recipe="{}",
        spreads={"middle": torch.tensor([3.0]), "output.3": torch.tensor([600.0])},
    )  # fmt: skip
    assert norms(both).item() == pytest.approx(3 * 2**0.5)
    where = layout(both)
    assert where[:2, :2].flatten().tolist() == pytest.approx([0.125] * 4) and where[3, 3] == pytest.approx(0.5)


def test_a_direction_that_does_nothing_has_its_energy_nowhere():
    assert not layout(direction(torch.zeros(1, 2, 2, 2))).any()
