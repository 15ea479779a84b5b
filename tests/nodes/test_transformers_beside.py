"""An edit of a transformer beside what others do with its blocks: core's own guidance nodes and ControlNet."""

import pytest
import torch
from models import sigmas
from test_transformers import direction, random_deltas, sample
from tiny_transformers import LAYOUTS, WIDTH, latent_of, prompt, transformer

pytestmark = pytest.mark.comfy

WITHOUT_SLOTS = "Lumina2", "ZImage"


@pytest.fixture(scope="module", params=[family for family in LAYOUTS if family not in WITHOUT_SLOTS])
def model(request):
    return transformer(request.param)


def skip_layers(model, scale: float = 3.0):
    """Core's guidance by a pass in which a block is skipped, whose slot it fills at that pass."""
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    return SkipLayerGuidanceDiT.execute(model, scale, 0.0, 1.0, "0", "0").result[0]


def test_skip_layer_guidance_and_an_edit_of_the_same_block_both_act_in_either_order(pack, host, model):
    found = direction(pack, host, model, random_deltas(host, model))
    one, other = host.inject(skip_layers(model), found, [1.0]), skip_layers(host.inject(model, found, [1.0]))
    picture = sample(one)
    assert torch.equal(picture, sample(other))
    for alone in (model, skip_layers(model), host.inject(model, found, [1.0])):
        assert not torch.equal(picture, sample(alone))


def test_an_edit_acts_in_the_pass_that_skips_its_block_too(pack, host, model):
    """Behind the block that is skipped: an edit that only this pass lacked would be amplified by the guidance."""
    delta = {"double.0": random_deltas(host, model)["double.0"]}
    edited, seen = host.inject(model, direction(pack, host, model, delta), [1.0]), []

    def noted(executor, x, sigma, c_concat, c_crossattn, control, options, **kwargs):
        slots = options["patches_replace"]["dit"] if "dit" in options.get("patches_replace", {}) else {}
        appended = options.get("patches", {}).get("double_block", [])
        seen.append(bool(appended) or type(slots.get(("double_block", 0))).__name__ == "_InSlot")
        return executor(x, sigma, c_concat, c_crossattn, control, options, **kwargs)

    from comfy.patcher_extension import WrappersMP

    guided = skip_layers(edited)
    guided.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "noted", noted)  # inside of ours, as it comes later
    sample(guided)
    assert len(seen) >= 3 and all(seen)


@pytest.fixture(scope="module")
def controlled():
    """Core's ControlNet for Flux with random weights, as a prompt of it."""
    import comfy.controlnet
    import comfy.ops
    from comfy.ldm.flux.controlnet import ControlNetFlux

    import nodes

    layout = {**LAYOUTS["Flux"], "guidance_embed": True}
    network = ControlNetFlux(operations=comfy.ops.disable_weight_init, dtype=torch.float32, **layout)
    draw = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        weight.data = 0.1 * torch.randn(weight.shape, generator=draw)
    net = comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"), extra_conds=["y", "guidance"])
    hint = torch.rand(1, 48, 80, 3, generator=draw)
    return lambda prompts: nodes.ControlNetApplyAdvanced().apply_controlnet(*prompts, net, hint, 1.0, 0.0, 1.0)


def test_an_edit_is_added_to_what_a_controlnet_makes_of_a_flux(pack, host, controlled):
    from models import core_sample

    model = transformer("Flux")
    delta = torch.randn(1, WIDTH, 1, 1, generator=torch.Generator().manual_seed(3))
    edited = host.inject(model, direction(pack, host, model, {"double.0": delta}), [1.0])
    first, prompts = sigmas(model, 2, "simple")[:2], controlled((prompt(1), prompt(2)))

    def recorded(of):
        watched, recorder = host.record(of, "positive", ["double.0", "double.1"])
        core_sample(watched, "euler", first, *prompts, latent_of(model), 3, 2.0)
        return {site: each[:, 0].float() for site, each in recorder.trajectory()[1].items()}

    plain, with_it = recorded(model), recorded(edited)
    scale = float(plain["double.0"].abs().max())
    assert torch.allclose(with_it["double.0"] - plain["double.0"], delta.expand(1, -1, 3, 5), atol=2e-3 * scale)
    assert not torch.equal(sample(edited), core_sample(edited, "euler", sigmas(model, 2, "simple"), *prompts,
                                                       latent_of(model), 3, 2.0))  # fmt: skip
    assert not torch.equal(plain["double.1"], with_it["double.1"])


@pytest.mark.parametrize("first", ["compile", "edit"])
def test_a_compiled_flux_is_edited_and_left_as_it_was(pack, host, first):
    """By torch's eager backend, which computes what the model does."""
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    model = transformer("Flux")
    found, plain = direction(pack, host, model, random_deltas(host, model)), sample(model)
    compiled = lambda each: TorchCompileModel.execute(each, "eager").result[0]  # noqa: E731
    edited = lambda each: host.inject(each, found, [1.0])  # noqa: E731
    both = edited(compiled(model)) if first == "compile" else compiled(edited(model))
    assert torch.equal(sample(both), sample(edited(model)))
    assert torch.equal(sample(model), plain)
