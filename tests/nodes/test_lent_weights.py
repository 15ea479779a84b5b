"""Derivatives through weights that ComfyUI lends to layers, as dynamic VRAM does: those of plain weights."""

import pytest
import torch
from differentiating import cut, found_jacobian, learnt_from_words, learnt_under, objective, tiny_vae
from lent_weights import WAYS, lend_weights
from models import conditioning, in_precision, sd15

pytestmark = pytest.mark.comfy

ways = pytest.mark.parametrize("way", WAYS)


def lent(model, way):
    lend_weights(model.model, way)
    return model


def same(got, wanted):
    """To 1e-6 of the largest number."""
    assert wanted.abs().max() > 0
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()))


def gradient(function, shape):
    """Of a weighted sum of what the function makes of random numbers, which ran in inference mode before."""
    draw = torch.Generator().manual_seed(3)
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.rand(shape, generator=draw).requires_grad_()
        with torch.inference_mode(), torch.no_grad():
            function(x.detach().clone())
        out = function(x)
        return torch.autograd.grad((out * torch.randn(out.shape, generator=draw)).sum(), x)[0]


@ways
@pytest.mark.parametrize(
    ("site", "precision"),
    [("middle", "float32"), ("output.3", "float32"), ("middle", "float16"), ("middle", "bfloat16")],
)
def test_products_with_the_jacobian_of_a_unet(modules, way, site, precision):
    plain, _ = cut(modules, in_precision(precision), conditioning(1), conditioning(2), site=site)
    halves, _ = cut(modules, lent(in_precision(precision), way), conditioning(1), conditioning(2), site=site)
    assert torch.equal(halves.prediction, plain.prediction)
    draw = torch.Generator().manual_seed(0)
    of_lent, of_plain = halves.jacobian(), plain.jacobian()
    v, u = torch.randn(of_plain.in_shape, generator=draw), torch.randn(of_plain.out_shape, generator=draw)
    same(of_lent.forward(v), of_plain.forward(v))
    same(of_lent.transposed(u), of_plain.transposed(u))


@ways
def test_the_gradient_of_pictures_by_latents(faces, way):
    decoded = faces.module("nodes.host.decoding").decoded_with_gradient
    plain, vae = tiny_vae(), tiny_vae()
    lend_weights(vae.first_stage_model, way)
    given = 2, 4, 8, 8
    same(gradient(lambda x: decoded(vae, x), given), gradient(lambda x: decoded(plain, x), given))


def test_the_gradient_of_what_a_vision_model_sees_is_its_slope(faces):
    """Core's CLIP adds to x in place what its normalisation still needs."""
    features = objective(faces).features
    draw = torch.Generator().manual_seed(3)
    x, step = torch.rand(2, 3, 40, 48, generator=draw), 1e-2 * torch.randn(2, 3, 40, 48, generator=draw)
    u = torch.randn(2, features(x).shape[1], generator=draw)
    x.requires_grad_()
    (slope,) = torch.autograd.grad((features(x) * u).sum(), x)
    with torch.no_grad():
        difference = ((features(x + step) - features(x - step)) * u).sum() / 2
    torch.testing.assert_close((slope * step).sum(), difference, rtol=2e-2, atol=0)  # a central difference in float32


@ways
def test_the_gradient_of_what_a_vision_model_sees(faces, way):
    given = 2, 3, 40, 48
    same(gradient(objective(faces, way).features, given), gradient(objective(faces).features, given))


@ways
def test_find_directions_jacobian(faces, way):
    for got, wanted in zip(found_jacobian(faces, lent(sd15(), way)), found_jacobian(faces, sd15()), strict=True):
        same(got, wanted)


@ways
def test_learn_direction(faces, way):
    vae, how = tiny_vae(), dict(count=4, keep=0.3, batch_size=2)
    lend_weights(vae.first_stage_model, way)
    learnt = learnt_under(faces, lent(sd15(), way), vae, objective(faces, way), **how)
    same(learnt, learnt_under(faces, sd15(), tiny_vae(), objective(faces), **how))


@ways
def test_learn_direction_from_words(faces, way, tmp_path):
    learnt = (learnt_from_words(faces, model, tmp_path / "learning") for model in (lent(sd15(), way), sd15()))
    same(*learnt)


def test_weights_that_lie_elsewhere_are_left_to_comfyui(faces):
    """It knows them again by what it has written on them."""
    layer = torch.nn.Linear(3, 3, device="meta")
    layer.forward = lambda x: layer.weight
    run = faces.module("nodes.host.derivatives").with_autograd_weights(layer, torch.device("cpu"))
    assert run(torch.zeros(3)) is layer.weight
