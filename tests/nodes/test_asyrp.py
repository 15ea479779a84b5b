"""Asyrp Sampler: Kwon et al.'s asymmetric step."""

import pytest
import torch
from models import conditioning, core_sample, sd15, sigmas

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def kinds(faces):
    """Model, prompts, latent, a direction of it, guidance."""
    sd = sd15()
    directions = faces.directions
    own = directions.Direction(
        deltas={"middle": torch.randn(1, 64, 2, 2, generator=torch.Generator().manual_seed(0))},
        timesteps=torch.tensor([0.0]),
        name="d", method="random", unit="one", source=directions.Source("SD15", "0", "positive", (128, 128)),
        recipe="{}",
    )  # fmt: skip
    empty = (faces.empty, faces.empty)
    prompts = (conditioning(1), conditioning(2))
    return {
        "demo": (faces.model, empty, faces.latent, faces.direction("d", 0), 1.0),
        "sd": (sd, prompts, {"samples": torch.zeros(1, 4, 16, 16)}, own, 7.0),
    }


def asyrp(faces, direction, strength, edit_until=1.0, boost_from=1.0):
    node = faces.node("HSpaceAsyrpSampler")
    return node.execute(direction, strength, edit_until, boost_from, "both", "resize").result[0]


def run(kind, sampler, steps=4, seed=5, model=None):
    from comfy_extras.nodes_custom_sampler import SamplerCustom

    own, (positive, negative), latent, _, cfg = kind
    model = model or own
    return SamplerCustom.execute(
        model, True, seed, cfg, positive, negative, sampler, sigmas(own, steps), latent
    ).result[0]["samples"]  # fmt: skip


@pytest.mark.parametrize("name", ["demo", "sd"])
def test_strength_0_is_euler_bit_for_bit(faces, kinds, name):
    model, (positive, negative), latent, direction, cfg = kinds[name]
    euler = core_sample(model, "euler", sigmas(model, 4), positive, negative, latent, 5, cfg)
    assert torch.equal(run(kinds[name], asyrp(faces, direction, 0.0)), euler)
    assert torch.equal(run(kinds[name], asyrp(faces, direction, 1.0, edit_until=0.0)), euler)


@pytest.mark.parametrize("name", ["demo", "sd"])
def test_boosting_from_the_start_is_euler_ancestral_bit_for_bit(faces, kinds, name):
    model, (positive, negative), latent, direction, cfg = kinds[name]
    ancestral = core_sample(model, "euler_ancestral", sigmas(model, 4), positive, negative, latent, 5, cfg)
    assert torch.equal(run(kinds[name], asyrp(faces, direction, 0.0, boost_from=0.0)), ancestral)


@pytest.mark.parametrize("name", ["demo", "sd"])
def test_two_decodings_are_two_whole_passes(faces, kinds, name):
    """x' = P(x, edited) + sigma' (x - P(x, plain)) / sigma, each P by a call of the whole model."""
    import comfy.samplers

    model, _, _, direction, _ = kinds[name]
    host = faces.module("nodes.host")

    def twice(outer, x, sigmas, extra_args=None, callback=None, disable=None):
        options = extra_args["model_options"]
        edited = host.inject(model, direction, [0.7]).model_options["transformer_options"]["patches"]
        patched = {**options, "transformer_options": {**options["transformer_options"], "patches": edited}}
        for i in range(len(sigmas) - 1):
            sigma = sigmas[i] * x.new_ones(len(x))
            plain = outer(x, sigma, **extra_args)
            moved = outer(x, sigma, **{**extra_args, "model_options": patched})
            x = moved + sigmas[i + 1] * (x - plain) / sigmas[i]
        return x

    whole = run(kinds[name], comfy.samplers.KSAMPLER(twice))
    halves = run(kinds[name], asyrp(faces, direction, 0.7))
    torch.testing.assert_close(halves, whole, atol=2e-4, rtol=1e-4)
    assert not torch.allclose(halves, run(kinds[name], asyrp(faces, direction, 0.0)), atol=1e-2)


@pytest.mark.parametrize("name", ["demo", "sd"])
def test_with_the_edit_in_both_terms_it_is_the_symmetric_sampler(faces, kinds, name):
    model, (positive, negative), latent, direction, cfg = kinds[name]
    injected = faces.module("nodes.host").inject(model, direction, [0.7])
    symmetric = core_sample(injected, "euler", sigmas(model, 4), positive, negative, latent, 5, cfg)
    both = run(kinds[name], asyrp(faces, direction, 0.0), model=injected)
    torch.testing.assert_close(both, symmetric, atol=1e-6, rtol=0)


def test_the_encoder_runs_once_and_the_decoder_twice(faces, kinds):
    model, _, _, direction, _ = kinds["demo"]
    network, calls = model.model.diffusion_model, {"encoder": 0, "decoder": 0}
    hooks = [
        network.mid_block.register_forward_hook(lambda *_: calls.update(encoder=calls["encoder"] + 1)),
        network.up_blocks[0].register_forward_hook(lambda *_: calls.update(decoder=calls["decoder"] + 1)),
    ]
    try:
        run(kinds["demo"], asyrp(faces, direction, 1.0))
    finally:
        for hook in hooks:
            hook.remove()
    assert calls == {"encoder": 4, "decoder": 8}


def test_nothing_is_left_on_the_model(faces, kinds):
    model, (positive, negative), latent, direction, cfg = kinds["sd"]
    before = core_sample(model, "euler", sigmas(model, 4), positive, negative, latent, 5, cfg)
    run(kinds["sd"], asyrp(faces, direction, 2.0))
    after = core_sample(model, "euler", sigmas(model, 4), positive, negative, latent, 5, cfg)
    assert torch.equal(before, after)


def test_a_direction_of_another_model_is_refused(faces, kinds):
    with pytest.raises(ValueError, match="another kind of model"):
        run(kinds["sd"], asyrp(faces, kinds["demo"][3], 1.0))


def test_a_second_pass_split_into_other_batches_gives_the_same_picture(faces, kinds, monkeypatch):
    """ComfyUI joins prompts in a batch by the memory that is free just then."""
    from comfy.model_patcher import ModelPatcher

    direction, calls = kinds["sd"][3], []
    plain, joined = (run(kinds["sd"], asyrp(faces, direction, strength)) for strength in (0.0, 0.7))
    monkeypatch.setattr(ModelPatcher, "get_free_memory", lambda *_: (1 << 40) * (calls.append(1) or len(calls) % 2))
    split = run(kinds["sd"], asyrp(faces, direction, 0.7))
    # other batches differ in the last bits, which cfg 7 makes larger: but by nothing beside the edit
    assert (split - joined).abs().max() < 0.01 * (joined - plain).abs().max()
