"""The leading singular triplets of a Jacobian that is known by its products."""

import pytest
import torch
from torch.nn import Conv2d, GroupNorm

from directions import Jacobian, clear_norm, leading_triplets


@pytest.fixture(scope="module")
def decoder():
    """A small one with every kind of layer a real one has, and a skip."""
    torch.manual_seed(0)
    skip = torch.randn(1, 4, 8, 8)
    first, norm = Conv2d(6, 8, 3, padding=1), GroupNorm(2, 8)
    last = Conv2d(12, 3, 3, padding=1)

    def decode(h):
        up = torch.nn.functional.interpolate(torch.nn.functional.silu(norm(first(h))), scale_factor=2)
        return last(torch.cat([up, skip], 1)).tanh()

    return decode


@pytest.fixture(scope="module")
def h():
    return torch.randn(1, 6, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def products(decoder, h):
    def forward(v):
        return torch.func.jvp(decoder, (h,), (v[None],))[1][0].detach()

    out, pull = torch.func.vjp(decoder, h)
    return Jacobian(forward, lambda u: pull(u[None])[0][0].detach(), (6, 4, 4), tuple(out.shape[1:]))


@pytest.fixture(scope="module")
def dense(decoder, h):
    return torch.func.jacrev(decoder)(h).reshape(192, 96).detach()


MASKS = {
    "no mask": torch.ones(1, 8, 8),
    "half": (torch.arange(8) < 4).float().expand(1, 8, 8),
    "soft": torch.linspace(0, 1, 64).reshape(1, 8, 8),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("k", [1, 3, 10])
def test_triplets_are_those_of_the_dense_jacobian(products, dense, mask, k):
    found = leading_triplets(products.masked(mask), k)
    masked = (mask.expand(3, 8, 8).flatten()[:, None] * dense).double()
    _, values, rows = torch.linalg.svd(masked)
    assert ((found.values / values[:k] - 1).abs() < 1e-4).all()
    cosines = torch.linalg.svdvals(found.right.flatten(1).double() @ rows[:k].T)
    assert torch.acos(cosines.clamp(max=1)).max() < 1e-2  # the bound on principal angles, in radians
    assert found.residuals.max() < 1e-3
    torch.testing.assert_close(
        found.left.flatten(1).double() * found.values[:, None], found.right.flatten(1).double() @ masked.T,
        atol=1e-5, rtol=1e-4,
    )  # fmt: skip


def test_the_result_repeats_exactly_and_another_start_agrees(products):
    one, again, other = (leading_triplets(products, 3, seed=seed) for seed in (0, 0, 7))
    assert torch.equal(one.right, again.right) and torch.equal(one.values, again.values)
    torch.testing.assert_close(one.right, other.right, atol=1e-3, rtol=0)  # the sign too


def test_right_vectors_are_orthonormal_and_brighten(products):
    found = leading_triplets(products, 5)
    torch.testing.assert_close(found.right.flatten(1) @ found.right.flatten(1).T, torch.eye(5), atol=1e-5, rtol=0)
    assert (found.left.flatten(1).sum(1) > 0).all()


def test_what_is_removed_stays_out_and_the_rest_is_found(products, dense):
    avoided = leading_triplets(products, 2).right
    found = leading_triplets(products.without(avoided), 3)
    assert (found.right.flatten(1) @ avoided.flatten(1).T).abs().max() < 1e-5
    third_on = torch.linalg.svdvals(dense.double())[2:5]
    torch.testing.assert_close(found.values, third_on, rtol=1e-4, atol=0)


def test_scaling_scales_the_values_and_a_negative_factor_turns_the_sign(products):
    found, scaled = leading_triplets(products, 2), leading_triplets(products.scaled(-2.0), 2)
    torch.testing.assert_close(scaled.values, 2 * found.values, rtol=1e-4, atol=0)
    torch.testing.assert_close(scaled.right, -found.right, atol=1e-3, rtol=0)


def test_every_product_is_counted(products):
    calls = []
    found = leading_triplets(products, 3, on_product=lambda: calls.append(1))
    assert sum(found.products) == len(calls) < 96


def test_a_search_can_be_interrupted(products):
    class Stopped(Exception):
        pass

    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 5:
            raise Stopped

    with pytest.raises(Stopped):
        leading_triplets(products, 3, on_product=stop)
    assert len(calls) == 5


@pytest.mark.parametrize("k", [0, 96])
def test_more_directions_than_there_are_is_an_error(products, k):
    with pytest.raises(ValueError, match="wanted 1 to 95"):
        leading_triplets(products, k)


def test_nan_is_an_error(products):
    broken = products.scaled(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinity"):
        leading_triplets(broken, 2)


def test_fewer_directions_than_asked_is_an_error(products):
    one_pixel = torch.zeros(1, 8, 8)
    one_pixel[0, 3, 3] = 1
    with pytest.raises(ValueError, match="fewer"):
        leading_triplets(products.masked(one_pixel), 5)  # three channels of one pixel: rank 3


def test_a_clear_edit_is_two_tenths_of_the_contrast_to_first_order():
    """A model whose v changes by 0.5 a unit at all timesteps, sampled by Euler's method."""
    sigmas = torch.tensor([80.0, 10.0, 2.0, 0.5, 0.0])
    norm = clear_norm(0.5 / (1 + 2.0**2) ** 0.5, sigma=2.0, contrast=0.6, area=100.0, sigmas=sigmas)
    change = 0.0
    for sigma, following in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        change += (sigma - following) * 0.5 * norm / (1 + sigma**2) ** 0.5
    assert change / 100**0.5 == pytest.approx(0.2 * 0.6)


def test_equal_singular_values_are_all_found():
    """Where J and J^T lead nowhere new, the search begins again elsewhere."""
    same = Jacobian(lambda v: 2 * v, lambda u: 2 * u, (40,), (40,))
    found = leading_triplets(same, 3)
    torch.testing.assert_close(found.values, torch.full((3,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(found.right @ found.right.T, torch.eye(3), atol=1e-5, rtol=0)


def test_a_jacobian_of_zeros_is_an_error():
    zeros = Jacobian(torch.zeros_like, torch.zeros_like, (40,), (40,))
    with pytest.raises(ValueError, match="Only 0 directions"):
        leading_triplets(zeros, 1)


def test_what_has_not_settled_is_an_error():
    noise = torch.linspace(1, 1.001, 400)
    with pytest.raises(ValueError, match="did not settle in 121 products"):
        leading_triplets(Jacobian(lambda v: noise * v, lambda u: noise * u, (400,), (400,)), 1, tol=1e-12)
