"""Derivatives through weights that ComfyUI lends to layers, as dynamic VRAM does: those of plain weights."""

from itertools import count

import pytest
import torch
from demo_faces import folder_of
from lent_weights import WAYS, lend_weights
from models import conditioning, sd15, sigmas
from test_split_unet import cut, modules  # noqa: F401, a fixture
from tiny_clip import comfy_clip, comfy_vision, transformers_halves

pytestmark = pytest.mark.comfy

TEXTS = "a smiling face", "a face"
LATENT = {"samples": torch.zeros(1, 4, 8, 8)}

ways = pytest.mark.parametrize("way", WAYS)


def tiny_vae():
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    draw = torch.Generator().manual_seed(0)
    weights = TAESD().state_dict()
    for name, weight in weights.items():
        if weight.ndim:
            weights[name] = 0.05 * torch.randn(weight.shape, generator=draw)
    return comfy.sd.VAE(sd=weights)


def objective(faces, way=None):
    text, image = transformers_halves()
    vision = comfy_vision(image)
    vision.model.float()  # what is cast to another precision is no longer what was lent
    if way:
        lend_weights(vision.model, way)
    return faces.module("nodes.host.objective").text_objective(comfy_clip(text.state_dict()), vision, *TEXTS)


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
@pytest.mark.parametrize("site", ["middle", "output.3"])
def test_products_with_the_jacobian_of_a_unet(modules, way, site):  # noqa: F811
    plain, _ = cut(modules, sd15(), conditioning(1), conditioning(2), site=site)
    halves, _ = cut(modules, lent(sd15(), way), conditioning(1), conditioning(2), site=site)
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


@pytest.fixture
def banks(tmp_path):
    """Where learning is kept, a new folder at each call: what goes on has nothing left to learn."""
    number = count()
    return lambda: folder_of("hspace_banks", tmp_path / f"{next(number)}")


@ways
def test_find_directions_jacobian(faces, way):
    def found(model):
        with torch.inference_mode():
            directions, picture, _ = faces.node("HSpaceFindJacobian").execute(
                model, conditioning(1), conditioning(2), faces.euler, sigmas(model, 3), LATENT, 5, "0.5", 2, 3.0, 0,
                "positive", sites="middle",
            ).result  # fmt: skip
        return torch.cat([each.deltas["middle"] for each in directions.directions]), picture["samples"]

    for got, wanted in zip(found(lent(sd15(), way)), found(sd15()), strict=True):
        same(got, wanted)


@ways
def test_learn_direction(faces, way, banks):
    def learnt(model, vae, objective):
        with torch.inference_mode(), banks():
            direction, _, pictures, _ = faces.node("HSpaceLearnDirection").execute(
                model, conditioning(1), conditioning(2), faces.euler, sigmas(model, 2), LATENT, vae, objective, "smile",
                "constant", 4, 50, 2, 0.02, 0.3, 2, 3.0, "positive", "middle",
            ).result  # fmt: skip
        return direction.deltas["middle"]

    vae = tiny_vae()
    lend_weights(vae.first_stage_model, way)
    same(learnt(lent(sd15(), way), vae, objective(faces, way)), learnt(sd15(), tiny_vae(), objective(faces)))


@ways
def test_learn_direction_from_words(faces, way, tmp_path):
    trainer = faces.module("nodes.host.slider_trainer")

    def learnt(model):
        encoded = tuple(map(conditioning, (1, 3, 4)))
        run = dict(sampler=faces.euler, sigmas=sigmas(model, 2), latent=LATENT)
        with torch.inference_mode():
            each = trainer.SliderTrainer(
                model, lambda number: encoded, conditioning(2), run, 3.0, 0, 2, 1, ("middle", "output.3")
            )
            found = each.started({}, tmp_path / "learning.safetensors")
            each.train_round(found)
        return torch.stack(found.rows)

    same(learnt(lent(sd15(), way)), learnt(sd15()))


def test_weights_that_lie_elsewhere_are_left_to_comfyui(faces):
    """It knows them again by what it has written on them."""
    layer = torch.nn.Linear(3, 3, device="meta")
    layer.forward = lambda x: layer.weight
    run = faces.module("nodes.host.derivatives").with_autograd_weights(layer, torch.device("cpu"))
    assert run(torch.zeros(3)) is layer.weight
