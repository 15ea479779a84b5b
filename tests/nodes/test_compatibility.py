"""Injection beside what else changes a model: ComfyUI's own nodes on the demo faces that listen to words."""

import importlib
from copy import deepcopy
from functools import partial

import pytest
import torch
from models import assert_edited, controlnet, ksampler, lora, probed, random_direction, sd15
from prompted_faces import SENTENCE

pytestmark = pytest.mark.comfy

LATENT = {"samples": torch.zeros(1, 4, 32, 32)}
# Left to right from 0 to 1: differential diffusion does nothing without one.
MASKED = {"samples": torch.ones(1, 4, 32, 32), "noise_mask": torch.linspace(0, 1, 256).expand(1, 256, 256)}


@pytest.fixture(scope="module")
def model(words):
    return words.model


@pytest.fixture(scope="module")
def direction(pack, model):
    return random_direction(pack, model, (64, 8, 8))


@pytest.fixture(scope="module")
def prompts(words):
    return {"positive": words.encode(SENTENCE), "negative": words.encode("sad")}


@pytest.fixture(scope="module")
def sample(prompts):
    """`sample(model)` draws one face."""
    return lambda model, latent=LATENT, **settings: ksampler(model, latent, **{**prompts, **settings})


@pytest.fixture(scope="module")
def edit(host, direction):
    """`edit(model)` injects the direction at strength 1."""
    return partial(host.inject, direction=direction, strengths=[1.0])


def of_node(module: str, name: str, *settings):
    """A function of a model: what core's node makes of it."""

    def apply(model):
        out = getattr(importlib.import_module(module), name)
        out = (
            out.execute(model, *settings) if hasattr(out, "execute") else getattr(out(), out.FUNCTION)(model, *settings)
        )
        return getattr(out, "result", out)[0]

    return apply


def with_lora(model):
    import comfy.sd

    return comfy.sd.load_lora_for_models(model, None, lora(model), 0.3, 0.0)[0]


OTHER_NODES = {
    "LoRA": with_lora,
    "FreeU": of_node("comfy_extras.nodes_freelunch", "FreeU", 1.3, 1.4, 0.9, 0.2),
    "FreeU_V2": of_node("comfy_extras.nodes_freelunch", "FreeU_V2", 1.3, 1.4, 0.9, 0.2),
    "PAG": of_node("comfy_extras.nodes_pag", "PerturbedAttentionGuidance", 3.0),
    "SAG": of_node("comfy_extras.nodes_sag", "SelfAttentionGuidance", 0.5, 2.0),
    "HyperTile": of_node("comfy_extras.nodes_hypertile", "HyperTile", 64, 1, 1, False),
    "deep shrink": of_node(
        "comfy_extras.nodes_model_downscale", "PatchModelAddDownscale", 3, 2.0, 0.0, 0.5, True, "bicubic", "bicubic"
    ),
    "differential diffusion": of_node("comfy_extras.nodes_differential_diffusion", "DifferentialDiffusion", 1.0),
}


@pytest.fixture(params=OTHER_NODES)
def beside(request, pack, model, direction, sample):
    """Another node, and a model, a direction and a way to sample with which it acts."""
    name = request.param
    if name.startswith("FreeU"):  # it goes by widths of Stable Diffusion's deeper levels, which the demo faces lack
        tiny = sd15()
        return OTHER_NODES[name], tiny, random_direction(pack, tiny, (64, 4, 4)), partial(ksampler, latent=LATENT)
    latent = MASKED if name == "differential diffusion" else LATENT
    return OTHER_NODES[name], model, direction, partial(sample, latent=latent)


def test_another_node_and_an_edit_both_act_in_either_order_and_leave_nothing(beside, host):
    with_other, model, direction, sample = beside
    edit = partial(host.inject, direction=direction, strengths=[1.0])
    base, patches = sample(model), patches_of(model)
    alone = sample(with_other(model))
    assert not torch.allclose(alone, base, atol=1e-3)
    assert torch.equal(sample(host.inject(with_other(model), direction, [0.0])), alone)
    edited = sample(edit(with_other(model)))
    assert torch.equal(sample(with_other(edit(model))), edited)
    assert not torch.allclose(edited, alone, atol=1e-3)
    assert not torch.allclose(edited, sample(edit(model)), atol=1e-3)
    assert torch.equal(sample(model), base)
    assert patches_of(model) == patches


def patches_of(model) -> list:
    return deepcopy([model.model_options, model.patches, model.object_patches, model.wrappers, model.callbacks])


@pytest.mark.parametrize("name, passes", [("PAG", 2), ("SAG", 2), ("deep shrink", 1)])
def test_the_passes_of_a_guidance_are_edited_too_and_a_shrunken_h_gets_a_smaller_edit(
    model, direction, edit, sample, name, passes
):
    patched, before, after = probed(OTHER_NODES[name](model), edit)
    sample(patched, steps=4)
    assert len(before.h) == 4 * passes
    assert {h.shape[2:] for h in before.h} == ({(8, 8), (4, 4)} if name == "deep shrink" else {(8, 8)})
    assert_edited(before, after, direction)


@pytest.fixture(scope="module")
def controlled(prompts, model):
    """The prompts under a ControlNet."""
    import nodes

    picture = torch.rand(1, 256, 256, 3, generator=torch.Generator().manual_seed(3))
    control = controlnet(model.model.model_config.unet_config), picture, 1.0, 0.0, 1.0
    return dict(
        zip(prompts, nodes.ControlNetApplyAdvanced().apply_controlnet(*prompts.values(), *control), strict=True)
    )


def test_an_edit_is_added_to_what_a_controlnet_makes_of_h(model, host, direction, edit, sample, controlled):
    middle, residual = [], []
    network = controlled["positive"][0][1]["control"].control_model
    middle_block = model.model.diffusion_model.middle_block
    patched, before, after = probed(model, edit)
    hooks = [
        middle_block[-1].register_forward_hook(lambda *seen: middle.append(seen[2].clone())),
        network.register_forward_hook(lambda *seen: residual.append(seen[2]["middle"][0].clone())),
    ]
    try:
        edited = sample(patched, **controlled)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(middle) == len(residual) == len(before.h) == 2
    for h, of_block, of_control in zip(before.h, middle, residual, strict=True):
        assert of_control.abs().max() > 0.01
        assert torch.equal(h, of_block + of_control)
    assert_edited(before, after, direction)
    plain = sample(model, **controlled)
    assert not torch.allclose(plain, sample(model), atol=1e-3)
    assert not torch.allclose(edited, plain, atol=1e-3)
    assert torch.equal(sample(host.inject(model, direction, [0.0]), **controlled), plain)


@pytest.fixture
def recorded(host, sample):
    """What is recorded of h at one step."""

    def record(model, branch, **prompts):
        recording, recorder = host.record(model, branch)
        sample(recording, steps=1, **prompts)
        return recorder.trajectory()[1]["middle"]

    return record


@pytest.mark.parametrize("branch", ["positive", "negative"])
def test_what_is_recorded_under_a_controlnet_holds_its_part(model, recorded, controlled, branch):
    assert not torch.allclose(recorded(model, branch, **controlled), recorded(model, branch), atol=0.1)


@pytest.mark.parametrize("name", ["PAG", "SAG"])
@pytest.mark.parametrize("branch", ["positive", "negative"])
def test_the_pass_of_a_guidance_is_not_recorded(model, recorded, name, branch):
    # SAG computes the attention of the middle block in its own way, with another rounding; a bank is float16
    guided = recorded(OTHER_NODES[name](model), branch)
    torch.testing.assert_close(guided, recorded(model, branch), rtol=2e-3, atol=2e-3)


def test_the_pass_of_sag_counts_as_negative(model, host, direction, sample):
    for apply_to, edited in ("positive", [1, 0]), ("negative", [1, 1]):
        edit = partial(host.inject, direction=direction, strengths=[1.0], apply_to=apply_to)
        patched, before, after = probed(OTHER_NODES["SAG"](model), edit)
        sample(patched, steps=1)
        assert [len(chunks) for chunks in before.kinds] == [2, 1]
        changed = [h.ne(other).flatten(1).any(1).sum().item() for h, other in zip(before.h, after.h, strict=True)]
        assert changed == edited


@pytest.mark.parametrize("name", ["FreeU", "FreeU_V2", "PAG", "SAG", "HyperTile", "deep shrink"])
def test_a_pixel_ddpm_refuses_what_it_would_not_serve(pack, sample, name):
    load = importlib.import_module(f"{pack.__name__}.nodes.capture.load_ddpm")
    demo, _, _, pixels = load.HSpaceLoadDDPM.execute(load.DEMO_MODEL).result
    with pytest.raises(ValueError, match="can be patched at its bottleneck only"):
        sample(OTHER_NODES[name](demo), pixels)
    with pytest.raises(ValueError, match="got control, wanted"):
        demo.model.diffusion_model(torch.zeros(1, 3, 64, 64), torch.zeros(1), control={"middle": [torch.ones(1)]})
