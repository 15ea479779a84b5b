"""Injection beside what else changes a model: ComfyUI's own nodes on its own UNet, with random weights."""

import importlib
from copy import deepcopy
from functools import partial

import pytest
import torch
from models import assert_edited, conditioning, controlnet, ksampler, lora, probed, random_direction, sd15

pytestmark = pytest.mark.comfy

SHAPE = (64, 4, 4)
LATENT = {"samples": torch.zeros(1, 4, 32, 32)}
# Left to right from 0 to 1: differential diffusion does nothing without one.
MASKED = {"samples": torch.ones(1, 4, 32, 32), "noise_mask": torch.linspace(0, 1, 256).expand(1, 256, 256)}


@pytest.fixture(scope="module")
def model():
    return sd15()


@pytest.fixture(scope="module")
def direction(pack, model):
    return random_direction(pack, model, SHAPE)


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

    return comfy.sd.load_lora_for_models(model, None, lora(model), 0.8, 0.0)[0]


OTHER_NODES = {
    "LoRA": with_lora,
    "FreeU": of_node("comfy_extras.nodes_freelunch", "FreeU", 1.3, 1.4, 0.9, 0.2),
    "FreeU_V2": of_node("comfy_extras.nodes_freelunch", "FreeU_V2", 1.3, 1.4, 0.9, 0.2),
    "PAG": of_node("comfy_extras.nodes_pag", "PerturbedAttentionGuidance", 3.0),
    "SAG": of_node("comfy_extras.nodes_sag", "SelfAttentionGuidance", 0.5, 2.0),
    "HyperTile": of_node("comfy_extras.nodes_hypertile", "HyperTile", 128, 1, 0, False),
    "deep shrink": of_node(
        "comfy_extras.nodes_model_downscale", "PatchModelAddDownscale", 3, 2.0, 0.0, 0.5, True, "bicubic", "bicubic"
    ),
    "differential diffusion": of_node("comfy_extras.nodes_differential_diffusion", "DifferentialDiffusion", 1.0),
}


@pytest.fixture(params=OTHER_NODES)
def other_node(request):
    """A function of a model, and a sampler with a latent on which it acts."""
    latent = MASKED if request.param == "differential diffusion" else LATENT
    return OTHER_NODES[request.param], partial(ksampler, latent=latent)


def test_another_node_and_an_edit_both_act_in_either_order_and_leave_nothing(other_node, model, host, direction, edit):
    with_other, sample = other_node
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
    model, direction, edit, name, passes
):
    patched, before, after = probed(OTHER_NODES[name](model), edit)
    ksampler(patched, LATENT, steps=4)
    assert len(before.h) == 4 * passes
    assert {h.shape[2:] for h in before.h} == ({(4, 4), (2, 2)} if name == "deep shrink" else {(4, 4)})
    assert_edited(before, after, direction)


def controlled(strength=1.0):
    """Prompts under a ControlNet."""
    import nodes

    picture = torch.rand(1, 256, 256, 3, generator=torch.Generator().manual_seed(3))
    prompts = conditioning(1), conditioning(2)
    return dict(
        zip(
            ("positive", "negative"),
            nodes.ControlNetApplyAdvanced().apply_controlnet(*prompts, controlnet(), picture, strength, 0.0, 1.0),
            strict=True,
        )
    )


def test_an_edit_is_added_to_what_a_controlnet_makes_of_h(model, host, direction, edit):
    prompts, middle, residual = controlled(), [], []
    network = prompts["positive"][0][1]["control"].control_model
    middle_block = model.model.diffusion_model.middle_block
    patched, before, after = probed(model, edit)
    hooks = [
        middle_block[-1].register_forward_hook(lambda *seen: middle.append(seen[2].clone())),
        network.register_forward_hook(lambda *seen: residual.append(seen[2]["middle"][0].clone())),
    ]
    try:
        edited = ksampler(patched, LATENT, **prompts)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(middle) == len(residual) == len(before.h) == 2
    for h, of_block, of_control in zip(before.h, middle, residual, strict=True):
        assert of_control.abs().max() > 0.01
        assert torch.equal(h, of_block + of_control)
    assert_edited(before, after, direction)
    plain = ksampler(model, LATENT, **prompts)
    assert not torch.allclose(plain, ksampler(model, LATENT), atol=1e-3)
    assert not torch.allclose(edited, plain, atol=1e-3)
    assert torch.equal(ksampler(host.inject(model, direction, [0.0]), LATENT, **prompts), plain)


@pytest.fixture
def recorded(host):
    """What is recorded of h at one step."""

    def record(model, branch, **prompts):
        recording, recorder = host.record(model, branch)
        ksampler(recording, LATENT, steps=1, **prompts)
        return recorder.trajectory()[1]

    return record


@pytest.mark.parametrize("branch", ["positive", "negative"])
def test_what_is_recorded_under_a_controlnet_holds_its_part(model, recorded, branch):
    assert not torch.allclose(recorded(model, branch, **controlled()), recorded(model, branch), atol=0.1)


@pytest.mark.parametrize("name", ["PAG", "SAG"])
@pytest.mark.parametrize("branch", ["positive", "negative"])
def test_the_pass_of_a_guidance_is_not_recorded(model, recorded, name, branch):
    # SAG computes the attention of the middle block in its own way, with another rounding; a bank is float16
    guided = recorded(OTHER_NODES[name](model), branch)
    torch.testing.assert_close(guided, recorded(model, branch), rtol=2e-3, atol=2e-3)


def test_the_pass_of_sag_counts_as_negative(model, host, direction):
    for apply_to, edited in ("positive", [1, 0]), ("negative", [1, 1]):
        edit = partial(host.inject, direction=direction, strengths=[1.0], apply_to=apply_to)
        patched, before, after = probed(OTHER_NODES["SAG"](model), edit)
        ksampler(patched, LATENT, steps=1)
        assert [len(chunks) for chunks in before.kinds] == [2, 1]
        changed = [h.ne(other).flatten(1).any(1).sum().item() for h, other in zip(before.h, after.h, strict=True)]
        assert changed == edited


@pytest.mark.parametrize("name", ["FreeU", "FreeU_V2", "PAG", "SAG", "HyperTile", "deep shrink"])
def test_a_pixel_ddpm_refuses_what_it_would_not_serve(pack, name):
    load = importlib.import_module(f"{pack.__name__}.nodes.capture.load_ddpm")
    demo, _, _, pixels = load.HSpaceLoadDDPM.execute(load.DEMO_MODEL).result
    with pytest.raises(ValueError, match="can be patched at its bottleneck only"):
        ksampler(OTHER_NODES[name](demo), pixels)
    with pytest.raises(ValueError, match="got control, wanted"):
        demo.model.diffusion_model(torch.zeros(1, 3, 64, 64), torch.zeros(1), control={"middle": [torch.ones(1)]})
