"""What comes after a site of a model, cut out while it samples."""

import pytest
import torch
from demo_faces import DemoFaces
from differentiating import cut
from models import conditioning, sd15, sigmas

pytestmark = pytest.mark.comfy


def demo(modules, pack, site="middle"):
    with torch.inference_mode():
        faces = DemoFaces(pack)
    return cut(modules, faces.model, faces.empty, faces.empty, latent=faces.latent, site=site)


def with_freeu(model):
    from comfy_extras.nodes_freelunch import FreeU_V2

    return FreeU_V2.execute(model, 1.3, 1.4, 0.9, 0.2).result[0]


@pytest.fixture(scope="module")
def sd(modules):
    with torch.inference_mode():
        model = sd15()
    return model


SITES = ["middle", "output.2", "output.3", "output.7"]
"""Of the tiny layout: the bottleneck, the first two levels above it, and the last block."""


@pytest.mark.parametrize("site", ["middle", "output.2", "output.4"])
def test_what_follows_a_site_of_the_demo_model_makes_its_prediction_bit_for_bit(modules, pack, site):
    halves, _ = demo(modules, pack, site)
    assert torch.equal(halves.decode(halves.h), halves.prediction)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(("cfg", "branch"), [(1.0, "positive"), (7.0, "positive"), (7.0, "negative")])
def test_what_follows_a_site_makes_the_whole_models_prediction(modules, sd, cfg, branch, site):
    halves, _ = cut(modules, sd, conditioning(1), conditioning(2), cfg=cfg, branch=branch, site=site)
    # another batch size, another attention kernel: the last bits
    torch.testing.assert_close(halves.decode(halves.h), halves.prediction, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("site", ["middle", "output.1", "output.2"])
def test_patches_on_the_decoder_act_in_it_once(modules, sd, site):
    """FreeU acts where 1280 and 640 channels enter a block: at output.2 that is where it is cut."""
    model = with_freeu(sd15(model_channels=320, num_res_blocks=[1, 1, 1, 1]))
    halves, _ = cut(modules, model, conditioning(1), conditioning(2), site=site)
    plain, _ = cut(
        modules, sd15(model_channels=320, num_res_blocks=[1, 1, 1, 1]), conditioning(1), conditioning(2), site=site
    )
    torch.testing.assert_close(halves.decode(halves.h), halves.prediction, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(halves.decode(halves.h), plain.decode(halves.h), atol=1e-3)
    kept = halves.h.clone()
    halves.decode(halves.h)
    assert torch.equal(halves.h, kept)


@pytest.mark.parametrize("kind", ["demo", "sd"])
def test_an_edit_of_a_later_site_is_what_cutting_there_makes(modules, pack, sd, kind):
    later = "output.2"
    at = lambda site: (  # noqa: E731
        demo(modules, pack, site) if kind == "demo" else cut(modules, sd, conditioning(1), conditioning(2), site=site)
    )[0]
    first, second = at("middle"), at(later)
    edited = first.decode(first.h, {later: lambda h: 2 * h})
    # the last bits: the whole call before the later cut ran with the attention that ComfyUI chose
    torch.testing.assert_close(edited, second.decode(2 * second.h), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(edited, first.prediction, atol=1e-3)


def test_watching_changes_no_picture_and_leaves_nothing_behind(modules, sd):
    _, watched = cut(modules, sd, conditioning(1), conditioning(2))
    import comfy.samplers

    plain = modules("host.sampling").sample(
        sd, positive=conditioning(1), negative=conditioning(2), cfg=1.0,
        sampler=comfy.samplers.sampler_object("euler"), sigmas=sigmas(sd, 3),
        latent={"samples": torch.zeros(1, 4, 16, 16)}, seeds=[3], on_step=lambda x0: None,
    )  # fmt: skip
    assert torch.equal(watched, plain)
    assert not sd.wrappers.get("diffusion_model")


@pytest.mark.parametrize("mode", ["two graphs", "one graph"])
@pytest.mark.parametrize("site", ["middle", "output.2"])
@pytest.mark.parametrize("kind", ["demo", "sd"])
def test_both_products_are_derivatives_and_each_others_transpose(modules, pack, sd, kind, site, mode, monkeypatch):
    halves, _ = (
        demo(modules, pack, site) if kind == "demo" else cut(modules, sd, conditioning(1), conditioning(2), site=site)
    )
    if mode == "one graph":
        import comfy.model_management

        enough = 1 << 40
        free = iter([1000, enough])  # too little for both graphs, enough for one
        monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: next(free))
    jacobian = halves.jacobian()
    draw = torch.Generator().manual_seed(0)
    v, u = torch.randn(jacobian.in_shape, generator=draw), torch.randn(jacobian.out_shape, generator=draw)
    step = 1e-2 * halves.h.std()
    difference = (halves.decode(halves.h + step * v) - halves.decode(halves.h - step * v))[0] / (2 * step)
    forward = jacobian.forward(v)
    assert (forward - difference).norm() < 0.03 * difference.norm()  # a central difference in float32
    torch.testing.assert_close((forward * u).sum(), (v * jacobian.transposed(u)).sum(), rtol=1e-3, atol=1e-5)


def test_lora_on_the_decoder_is_in_its_half(modules, sd):
    name = "diffusion_model.output_blocks.3.0.in_layers.2.weight"
    weight = sd.model.state_dict()[name]
    patched = sd.clone()
    patched.add_patches({name: (0.5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)),)})
    halves, _ = cut(modules, patched, conditioning(1), conditioning(2))
    plain, _ = cut(modules, sd, conditioning(1), conditioning(2))
    torch.testing.assert_close(halves.decode(halves.h), halves.prediction, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(halves.prediction, plain.prediction, atol=1e-3)


def test_several_prompts_on_a_branch_are_refused(modules, sd):
    with pytest.raises(ValueError, match="2 parts"):
        cut(modules, sd, conditioning(1) + conditioning(5), conditioning(2))


def test_a_graph_that_does_not_fit_says_how_much_it_needs(modules, sd, monkeypatch):
    import comfy.model_management

    halves, _ = cut(modules, sd, conditioning(1), conditioning(2))
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 1000)
    with pytest.raises(ValueError, match=r"needs over 0\.0 GB"):
        halves.jacobian()


def test_a_compiled_model_that_ran_before_is_cut_as_well(modules):
    import comfy.samplers
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    euler = comfy.samplers.sampler_object("euler")
    model, positive, negative = sd15(), conditioning(1), conditioning(2)
    halves, latents = cut(modules, model, positive, negative)
    compiled = TorchCompileModel.execute(model, "eager").result[0]
    try:
        modules("host.sampling").sample(
            compiled, positive=positive, negative=negative, cfg=1.0, sampler=euler, sigmas=sigmas(model, 3),
            latent={"samples": torch.zeros(1, 4, 16, 16)}, seeds=(3,), on_step=lambda x0: None,
        )  # fmt: skip
        again, same = cut(modules, compiled, positive, negative)
    finally:
        torch.compiler.reset()
    assert torch.equal(same, latents)
    assert torch.equal(again.h, halves.h) and torch.equal(again.prediction, halves.prediction)
