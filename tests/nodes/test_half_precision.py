"""Derivatives in half precision: those of float32 up to rounding, whatever computes in which.

A CPU computes in float32 with weights of any precision; what a card does is told to it as by ModelComputeDtype.
"""

from dataclasses import replace

import pytest
import torch
from differentiating import (
    cut,
    found_jacobian,
    gradients_learnt_from,
    learnt_from_words,
    objective,
    tiny_vae,
)
from models import conditioning, in_precision
from torch.nn.functional import cosine_similarity, group_norm

pytestmark = pytest.mark.comfy

LATENT = {"samples": torch.zeros(1, 4, 16, 16)}
"""So that the bottleneck's normalisation is of eight numbers each: of two it would be nearly their signs."""
CLOSE = {"float16 weights": 0.999, "float16": 0.995, "bfloat16": 0.95}
"""Cosines to what float32 gives. A number of float16 is rounded by up to 5e-4 of it, one of bfloat16 by 4e-3, layer by
layer, and what words change is a small difference of large predictions."""

halves = pytest.mark.parametrize("precision", CLOSE)


def same(got, wanted, close, longer=0.05):
    """By their cosines, and nearly in length."""
    for one, other in zip(got, wanted, strict=True):
        assert cosine_similarity(one.flatten(), other.flatten(), dim=0) > close
        assert float(one.norm()) == pytest.approx(float(other.norm()), rel=longer)


@pytest.fixture(scope="module")
def plain():
    return in_precision("float32")


@halves
def test_find_directions_jacobian(faces, plain, precision):
    directions, picture = found_jacobian(faces, in_precision(precision), LATENT)
    wanted, _ = found_jacobian(faces, plain, LATENT)
    same(directions, wanted, CLOSE[precision])
    assert picture.isfinite().all()


@halves
def test_learn_direction_from_words(faces, plain, precision, tmp_path):
    learnt = (learnt_from_words(faces, each, tmp_path / "none", LATENT) for each in (in_precision(precision), plain))
    same(*learnt, CLOSE[precision])


MIXED = {
    "float16 weights": ("float16 weights", torch.float32, torch.float16, 0.98),
    "float16, a VAE in bfloat16": ("float16", torch.bfloat16, torch.float32, 0.95),
    "bfloat16, a judge in float16": ("bfloat16", torch.float32, torch.float16, 0.8),
    "float32, a VAE and a judge in bfloat16": ("float32", torch.bfloat16, torch.bfloat16, 0.98),
}
"""Of UNet, VAE and judge (ComfyUI's vision models compute in that of their pictures, float32), and how close a gradient
is to that of float32: it goes through three random networks, which differ by rounding each. A VAE in float16 takes
minutes on a CPU: test_learn_direction.py has a small one."""


def judge(faces, dtype=torch.float32):
    """With a loss that isn't of small differences, as CLIP's own is."""
    return replace(objective(faces, dtype=dtype), loss=lambda edited, before, spread, end: (edited - 1).square().sum(1))


@pytest.fixture(scope="module")
def gradients(faces, plain):
    return gradients_learnt_from(faces, plain, tiny_vae(), judge(faces), LATENT, 0.3)


@pytest.mark.parametrize("mixed", MIXED)
def test_learn_direction(faces, gradients, mixed):
    precision, of_vae, of_judge, close = MIXED[mixed]
    model, vae = in_precision(precision), tiny_vae(of_vae)
    found = gradients_learnt_from(faces, model, vae, judge(faces, of_judge), LATENT, 0.3)
    same(found, gradients, close, 0.25)


@pytest.mark.parametrize("length", [1e-6, 1e6])
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_product_is_as_exact_for_a_vector_of_any_length(modules, precision, length):
    split_unet, _ = cut(modules, in_precision(precision), conditioning(1), conditioning(2))
    jacobian, draw = split_unet.jacobian(), torch.Generator().manual_seed(0)
    for product, shape in ((jacobian.forward, jacobian.in_shape), (jacobian.transposed, jacobian.out_shape)):
        vector = torch.randn(shape, generator=draw)
        found, wanted = product(length * vector) / length, product(vector)
        assert (found - wanted).norm() < 0.05 * wanted.norm()  # rounded at other places


def test_second_derivatives_of_a_normalisation_do_not_leave_float16(modules):
    """Its numbers have a standard deviation of .01, and the cube of one over that is 1e6."""
    draw = torch.Generator().manual_seed(0)
    x, u, v = (torch.randn(1, 8, 4, 4, generator=draw) for _ in range(3))

    def pushed(dtype):
        at, cotangent = (0.01 * x).to(dtype).requires_grad_(), u.to(dtype).requires_grad_()
        (pulled,) = torch.autograd.grad(group_norm(at, 4), at, cotangent, create_graph=True)
        return torch.autograd.grad(pulled, cotangent, v.to(dtype))[0]

    assert pushed(torch.float16).isnan().any()
    with modules("host.derivatives").wide_norms():
        found = pushed(torch.float16)
    torch.testing.assert_close(found, pushed(torch.float32).half(), rtol=5e-3, atol=0.2)
