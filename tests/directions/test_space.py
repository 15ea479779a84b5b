"""Directions of several sites: one vector, each site in its own measure."""

from dataclasses import replace

import pytest
import torch
from planted import SOURCE, TIMESTEPS, direction
from sklearn.decomposition import PCA

from directions import (
    Direction,
    Space,
    cosines,
    find_components,
    find_from_examples,
    load_direction,
    open_bank,
    orthogonalise,
    save_direction,
    write_shard,
)

SHAPES = {"middle": (6, 5, 5), "output.3": (3, 10, 10)}
SPREADS = {"middle": torch.tensor([1.0, 2.0, 3.0, 4.0]), "output.3": torch.tensor([50.0, 40.0, 30.0, 20.0])}


def several(seed: int, sites=tuple(SHAPES), **words) -> Direction:
    parts = {site: direction(seed, shape=SHAPES[site]).deltas["middle"] * SPREADS[site].mean() for site in sites}
    return replace(direction(seed), deltas=parts, spreads={site: SPREADS[site] for site in sites}, **words)


def recorded(folder, n: int = 12, offset: float = 0.0, first: int = 0):
    """A bank of both sites, whose larger map varies thirty times as much."""
    generator = torch.Generator().manual_seed(first)
    h = {
        site: offset + scale * torch.randn(n, len(TIMESTEPS), *SHAPES[site], generator=generator)
        for site, scale in (("middle", 1.0), ("output.3", 30.0))
    }
    write_shard(
        folder, range(first, first + n), timesteps=TIMESTEPS, h=h, latents=torch.zeros(n, 1), source=SOURCE, recipe="{}"
    )
    return open_bank(folder), {site: each.half().float() for site, each in h.items()}


def test_a_direction_is_itself_in_the_space_and_back():
    d = several(0)
    space = Space.of([d])
    for site, delta in space.deltas(space.vector(d)).items():
        torch.testing.assert_close(delta, d.deltas[site], rtol=1e-6, atol=0)


def test_the_unit_of_a_site_does_not_matter():
    """Cosines are the same where all that is said of one site is a thousand times as large."""
    a, b = several(1), several(2)
    grown = [
        replace(
            d,
            deltas={**d.deltas, "output.3": 1000 * d.deltas["output.3"]},
            spreads={**d.spreads, "output.3": 1000 * d.spreads["output.3"]},
        )
        for d in (a, b)
    ]
    torch.testing.assert_close(cosines(grown), cosines([a, b]), rtol=1e-5, atol=1e-7)


def test_the_spread_of_a_single_site_changes_nothing():
    a, b = direction(1), direction(2)
    spread = {"middle": torch.tensor([9.0, 1.0, 7.0, 3.0])}
    known = [replace(d, spreads=spread) for d in (a, b)]
    assert torch.equal(cosines(known), cosines([a, b]))
    assert torch.equal(orthogonalise(known[0], known[1:]).deltas["middle"], orthogonalise(a, [b]).deltas["middle"])


@pytest.mark.parametrize("span", ["whole trajectory", "each timestep"])
def test_what_is_left_is_orthogonal_over_all_sites(span):
    left = orthogonalise(several(1), [several(2), several(3)], span=span)
    assert cosines([left, several(2), several(3)])[0, 1:].abs().max() < 1e-6
    assert left.spreads.keys() == SHAPES.keys()


def test_protecting_a_direction_of_one_site_takes_its_part_there():
    one = several(2, sites=("output.3",))
    left = orthogonalise(several(1), [one])
    torch.testing.assert_close(left.deltas["middle"], several(1).deltas["middle"], rtol=1e-6, atol=1e-6)
    assert abs(cosines([left, one])[0, 1]) < 1e-6


def test_a_sum_has_the_sites_of_both():
    a, b = several(1, sites=("middle",)), several(2, sites=("output.3",))
    total = a + b
    assert total.sites == ("middle", "output.3")
    assert torch.equal(total.deltas["middle"], a.deltas["middle"])
    assert torch.equal(total.deltas["output.3"], b.deltas["output.3"])
    assert cosines([total, a + b]).min() == pytest.approx(1)


def test_sites_whose_spread_nobody_knows_are_not_compared():
    bare = replace(several(1), spreads={})
    with pytest.raises(ValueError, match='none known for middle of "d1"'):
        cosines([bare, bare])


def test_several_sites_are_saved_and_loaded_exactly(tmp_path):
    save_direction(several(1), tmp_path / "d.safetensors")
    assert load_direction(tmp_path / "d.safetensors") == several(1)


def test_examples_give_each_site_the_difference_of_its_means(tmp_path):
    with_it, h = recorded(tmp_path / "with", offset=1.0)
    without, other = recorded(tmp_path / "without", first=100)
    found = find_from_examples(with_it, without, name="d")
    for site in SHAPES:
        expected = (h[site].mean(0) - other[site].mean(0)).float()
        torch.testing.assert_close(found.direction.deltas[site], expected, rtol=1e-4, atol=1e-4)  # float32 sums
        everything = torch.cat([h[site], other[site]]).double()
        spread = everything.var(0).flatten(1).sum(1).sqrt()
        torch.testing.assert_close(found.direction.spreads[site].double(), spread, rtol=1e-4, atol=0)


def test_components_are_those_of_sklearn_in_the_common_measure(tmp_path):
    bank, h = recorded(tmp_path)
    found = find_components(bank, len(bank) - 1)
    for step in range(len(TIMESTEPS)):
        flat = {site: each[:, step].flatten(1).double() for site, each in h.items()}
        scales = {site: each.var(0).sum().sqrt() for site, each in flat.items()}
        joined = torch.cat([flat[site] / scales[site] for site in SHAPES], 1).numpy()
        oracle = torch.from_numpy(PCA(len(bank) - 1, svd_solver="full").fit(joined).explained_variance_ratio_)
        got = found.spectrum[:, step].sort(descending=True).values
        torch.testing.assert_close(got, oracle, rtol=1e-4, atol=0)


def test_a_large_map_does_not_decide_everything(tmp_path):
    """Each site has half of every step's variance, whatever its size and unit."""
    bank, _ = recorded(tmp_path)
    found = find_components(bank, len(bank) - 1)
    space = Space.of(list(found))
    small = torch.Size(SHAPES["middle"]).numel()
    energy = torch.stack([space.vector(d).double().square() for d in found]).sum(0)
    torch.testing.assert_close(energy[:, :small].sum(1), energy[:, small:].sum(1), rtol=1e-4, atol=0)
