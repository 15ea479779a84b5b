import pytest
import torch
from planted import DEVIATIONS, TIMESTEPS, bank, trajectories
from sklearn.decomposition import PCA
from torch.nn.functional import cosine_similarity

from directions import find_components
from directions.banks import bank as bank_module


def test_planted_axes_are_found_in_order_at_every_timestep(tmp_path):
    h, axes = trajectories(400)
    found = find_components(bank(tmp_path, h, shard=100), 5)
    for direction, axis in zip(found, axes, strict=True):
        # 400 samples turn an estimated axis by about 1/sqrt(400) times the ratio of neighbouring deviations
        assert (cosine_similarity(direction.deltas["middle"].flatten(1), axis).abs() > 0.97).all()


@pytest.mark.parametrize("step", range(len(TIMESTEPS)))
def test_components_agree_with_scikit_learn_at_each_timestep(tmp_path, step):
    h, _ = trajectories()
    found = find_components(bank(tmp_path, h), 5)
    oracle = PCA(5, svd_solver="full").fit(h[:, step].float().flatten(1).numpy())
    deltas = torch.stack([direction.deltas["middle"][step].flatten() for direction in found])
    cosines = cosine_similarity(deltas, torch.from_numpy(oracle.components_), dim=1).abs()
    assert (cosines > 0.9999).all()
    torch.testing.assert_close(
        deltas.norm(dim=1), torch.from_numpy(oracle.explained_variance_).sqrt().float(), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(
        found.spectrum[:, step].float(), torch.from_numpy(oracle.explained_variance_ratio_).float(), rtol=1e-4, atol=0
    )


def test_components_of_the_whole_trajectory_agree_with_scikit_learn(tmp_path):
    h, _ = trajectories()
    found = find_components(bank(tmp_path, h), 3, span="whole trajectory")
    oracle = PCA(3, svd_solver="full").fit(h.float().flatten(1).numpy())
    deltas = torch.stack([direction.deltas["middle"].flatten() for direction in found])
    assert (cosine_similarity(deltas, torch.from_numpy(oracle.components_), dim=1).abs() > 0.9999).all()
    torch.testing.assert_close(
        deltas.norm(dim=1), torch.from_numpy(oracle.explained_variance_).sqrt().float(), rtol=1e-4, atol=0
    )


def test_signs_agree_with_the_neighbouring_timestep(tmp_path):
    h, _ = trajectories()
    for direction in find_components(bank(tmp_path, h), 5):
        flat = direction.deltas["middle"].flatten(1)
        assert (cosine_similarity(flat[1:], flat[:-1]) > 0).all()


def test_a_component_is_followed_when_two_swap_their_rank(tmp_path):
    _, axes = trajectories()
    generator = torch.Generator().manual_seed(1)
    deviations = torch.tensor([[9.0, 3.0], [8.0, 4.0], [4.0, 8.0], [3.0, 9.0]])  # of two axes, at each timestep
    h = (torch.randn(300, 4, 2, generator=generator) * deviations) @ axes[:2]
    found = find_components(bank(tmp_path, h.half().unflatten(2, (6, 5, 5)), shard=100), 2)
    for direction in found:
        cosines = cosine_similarity(direction.deltas["middle"].flatten(1).unsqueeze(1), axes[:2], dim=2).abs()
        assert len(set(cosines.argmax(1).tolist())) == 1


def test_components_do_not_depend_on_shards_or_slices(tmp_path, monkeypatch):
    h, _ = trajectories()
    whole = find_components(bank(tmp_path / "whole", h, shard=40), 5)
    monkeypatch.setattr(bank_module, "SLICE_ELEMENTS", 40 * 25)  # one channel at a time
    sliced = find_components(bank(tmp_path / "sliced", h, shard=3), 5)
    for a, b in zip(whole, sliced, strict=True):
        torch.testing.assert_close(
            a.deltas["middle"], b.deltas["middle"], rtol=1e-3, atol=1e-4
        )  # sums in another order


def test_strength_one_is_one_standard_deviation(tmp_path):
    h, _ = trajectories(400)
    found = find_components(bank(tmp_path, h, shard=100), 5)
    spread = torch.stack([direction.deltas["middle"].flatten(1).norm(dim=1) for direction in found])
    assert ((spread / DEVIATIONS.unsqueeze(1) - 1).abs() < 0.15).all()  # 400 samples know it to about 4 %


@pytest.mark.parametrize("k", [0, 40])
def test_more_components_than_the_bank_can_have_are_refused(tmp_path, k):
    h, _ = trajectories(40)
    with pytest.raises(ValueError, match=f"have 1 to 39 components: got k = {k}"):
        find_components(bank(tmp_path, h), k)


def test_a_bank_without_variety_is_refused(tmp_path):
    h, _ = trajectories(10)
    with pytest.raises(ValueError, match="varies in 0 directions only"):
        find_components(bank(tmp_path, h[:1].expand(10, -1, -1, -1, -1)), 1)


def test_no_more_than_a_slice_of_the_bank_is_read_at_a_time(tmp_path, monkeypatch):
    h, _ = trajectories()
    recorded = bank(tmp_path, h)
    monkeypatch.setattr(bank_module, "SLICE_ELEMENTS", 40 * 25 * 2)  # two channels of all trajectories
    read, sizes = type(recorded).h, []

    def measured(self, *args):
        sizes.append(read(self, *args).numel())
        return read(self, *args)

    monkeypatch.setattr(type(recorded), "h", measured)
    find_components(recorded, 5)
    assert max(sizes) <= bank_module.SLICE_ELEMENTS
