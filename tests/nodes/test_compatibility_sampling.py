"""Injection and the ways of sampling: areas, batches, img2img, split and hires runs, torch.compile, little memory."""

import importlib
from functools import partial

import pytest
import torch
from models import assert_edited, ksampler, lora, probed, random_direction
from prompted_faces import SENTENCE

pytestmark = pytest.mark.comfy

LATENT = {"samples": torch.zeros(1, 4, 32, 32)}


@pytest.fixture(scope="module")
def prompts(words):
    return words.encode(SENTENCE), words.encode("sad")


@pytest.fixture(scope="module")
def sample(prompts):
    """`sample(model, latent)` draws a face; one that knows no words draws any."""
    return lambda model, latent, positive=prompts[0], **settings: ksampler(
        model, latent, positive, prompts[1], **settings
    )


@pytest.fixture(scope="module")
def kinds(pack, words):
    """Both kinds of model: (model, empty latent, direction)."""
    load = importlib.import_module(f"{pack.__name__}.nodes.capture.load_ddpm")
    demo, _, _, pixels = load.HSpaceLoadDDPM.execute(load.DEMO_MODEL).result
    return {
        "sd": (words.model, LATENT, random_direction(pack, words.model, (64, 8, 8))),
        "ddpm": (demo, {"samples": pixels["samples"]}, random_direction(pack, demo, (128, 8, 8))),
    }


@pytest.fixture(params=["sd", "ddpm"])
def kind(request, kinds):
    return kinds[request.param]


@pytest.fixture
def sd(kinds):
    return kinds["sd"]


def test_each_area_gets_the_whole_edit_in_its_own_size(sd, host, sample, words, prompts):
    import nodes

    model, latent, direction = sd
    right = nodes.ConditioningSetArea().append(words.encode("young"), 128, 256, 128, 0, 1.0)[0]
    prompt = nodes.ConditioningCombine().combine(prompts[0], right)[0]
    for apply_to, chosen in ("both", (0, 1)), ("positive", (0,)):
        patched, before, after = probed(model, lambda m, to=apply_to: host.inject(m, direction, [1.0], apply_to=to))
        edited = sample(patched, latent, prompt)
        assert {h.shape[2:] for h in before.h} == {(8, 8), (8, 4)}
        assert_edited(before, after, direction, chosen)
        assert not torch.allclose(edited, sample(model, latent, prompt), atol=1e-3)
    assert torch.equal(sample(host.inject(model, direction, [0.0]), latent, prompt), sample(model, latent, prompt))


@pytest.mark.parametrize("bounds, sizes", [("default", {(8, 8)}), ("mask bounds", {(8, 4), (8, 8)})])
def test_every_prompt_of_a_region_is_edited(sd, host, sample, words, bounds, sizes):
    import nodes

    model, latent, direction = sd
    left = torch.zeros(256, 256)
    left[:, :128] = 1
    regions = [
        nodes.ConditioningSetMask().append(words.encode(text), mask, bounds, 1.0)[0]
        for text, mask in (("old", left), ("young", 1 - left))
    ]
    prompt = nodes.ConditioningCombine().combine(*regions)[0]
    patched, before, after = probed(model, lambda m: host.inject(m, direction, [1.0]))
    sample(patched, latent, prompt)
    assert sum(chunks.count(0) for chunks in before.kinds) == 4  # two prompts at each of two steps
    assert {h.shape[2:] for h in before.h} == sizes
    assert_edited(before, after, direction)


def test_a_picture_in_a_batch_is_the_picture_alone(kind, host, sample):
    model, latent, direction = kind
    patched = host.inject(model, direction, [1.0])
    batch = sample(patched, {"samples": latent["samples"].repeat(3, 1, 1, 1)})
    for i in range(3):
        alone = sample(patched, {**latent, "batch_index": [i]})
        # sums in another order in a larger batch, grown through two steps of the UNet
        torch.testing.assert_close(batch[i : i + 1], alone, rtol=1e-3, atol=1e-3)


def test_img2img_is_edited_and_a_window_counts_from_pure_noise(kind, host, sample):
    model, latent, direction = kind
    picture = {"samples": sample(model, latent)}
    plain, again = (sample(each, picture, denoise=0.5) for each in (model, host.inject(model, direction, [0.0])))
    assert torch.equal(again, plain)
    window = partial(host.inject, model, direction, [1.0])
    assert not torch.allclose(sample(window(), picture, denoise=0.5), plain, atol=1e-3)
    assert not torch.allclose(sample(window(start_percent=0.5), picture, denoise=0.5), plain, atol=1e-3)
    # The first half of the sampling is what denoise 0.5 leaves out.
    assert torch.equal(sample(window(end_percent=0.45), picture, denoise=0.5), plain)


def test_inpainting_edits_inside_its_mask_only(kind, host, sample):
    import nodes

    model, latent, direction = kind
    height, width = latent["samples"].shape[2:]
    mask = torch.zeros(height, width)
    mask[:, : width // 2] = 1
    picture = nodes.SetLatentNoiseMask().set_mask({"samples": sample(model, latent)}, mask)[0]
    change = sample(host.inject(model, direction, [1.0]), picture) - sample(model, picture)
    # core interpolates the mask and blends x with it: what it holds fixed is so but for float32's rounding
    assert change[..., width // 2 :].abs().max() < 1e-5
    assert change[..., : width // 2].abs().max() > 1e-3


def split(first, second, latent, prompts, at, steps=4):
    """Two KSamplerAdvanced one after the other, which hand over at step `at`."""
    import nodes

    sample = nodes.KSamplerAdvanced().sample
    settings = 0, steps, 3.0, "euler", "normal", *prompts
    half = sample(first, "enable", *settings, latent, 0, at, "enable")[0]
    return sample(second, "disable", *settings, half, at, steps, "disable")[0]["samples"]


def test_a_run_split_in_two_is_the_whole_run_and_a_window_may_end_where_it_is_split(kind, host, sample, prompts):
    model, latent, direction = kind
    window = partial(host.inject, model, direction, [0.3])
    early, late, all_of_it = window(end_percent=0.5), window(start_percent=0.5), window()
    for whole, first, second in (
        (all_of_it, all_of_it, all_of_it),
        (early, early, early),
        (early, all_of_it, model),
        (late, model, all_of_it),
    ):
        # Four steps: two on each side of half. Core too rescales the latent where it hands over, in float32.
        torch.testing.assert_close(
            split(first, second, latent, prompts, 2), sample(whole, latent, steps=4), rtol=1e-3, atol=1e-3
        )
    assert not torch.allclose(sample(early, latent, steps=4), sample(late, latent, steps=4), atol=1e-2)


def test_a_hires_fix_gets_the_edit_resized(kind, host, sample):
    import nodes

    model, latent, direction = kind
    height, width = (side * 3 // 2 for side in latent["samples"].shape[2:])
    edit = partial(host.inject, direction=direction, strengths=[1.0])
    small = {"samples": sample(edit(model), latent)}
    large = nodes.LatentUpscale().upscale(small, "bilinear", width * 8, height * 8, "disabled")[0]
    assert large["samples"].shape[2:] == (height, width)
    patched, before, after = probed(model, edit)
    edited = sample(patched, large, denoise=0.6)
    assert before.h[0].shape[2] == direction.deltas["middle"].shape[2] * 3 // 2
    assert_edited(before, after, direction)
    assert not torch.allclose(edited, sample(model, large, denoise=0.6), atol=1e-3)
    with pytest.raises(ValueError, match="set fit to resize"):
        sample(edit(model, fit="exact"), large)


def as_on_a_gpu(model):
    """With the attention ComfyUI takes on a GPU: through it torch.compile sees the whole UNet as one graph."""
    from comfy.ldm.modules.attention import attention_pytorch

    model = model.clone()
    override = lambda func, *args, **kwargs: attention_pytorch(*args, **kwargs)  # noqa: E731
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    return model


@pytest.mark.parametrize("first", ["base", "edit"])
def test_a_compiled_model_is_edited_whatever_it_was_run_with_before(sd, host, sample, first):
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    model, latent, direction = as_on_a_gpu(sd[0]), *sd[1:]
    host.require_bottleneck(compiled := TorchCompileModel.execute(model, "eager").result[0], "A test")
    base, weak, strong = (sample(host.inject(model, direction, [s]), latent, cfg=1.0) for s in (0.0, 1.0, 2.0))
    try:
        if first == "base":
            assert torch.equal(sample(compiled, latent, cfg=1.0), base)
        for strength, wanted in (1.0, weak), (2.0, strong):
            assert torch.equal(sample(host.inject(compiled, direction, [strength]), latent, cfg=1.0), wanted)
        after = TorchCompileModel.execute(host.inject(model, direction, [2.0]), "eager").result[0]
        assert torch.equal(sample(after, latent, cfg=1.0), strong)
        recording, recorder = host.record(compiled, "positive")
        sample(recording, latent, cfg=1.0)
        assert len(recorder.trajectory()[0]) == 2
        assert torch.equal(sample(compiled, latent, cfg=1.0), base)
    finally:
        torch.compiler.reset()


def test_moving_a_model_does_not_change_the_direction_in_it(sd, host, sample):
    model, latent, direction = sd
    before, patched = direction.deltas["middle"].clone(), host.inject(model, direction, [1.0])
    edited = sample(patched, latent)
    for target in torch.float16, torch.device("cpu"), torch.bfloat16:
        patched.model_patches_to(target)
    again = patched.clone()
    patched.unpatch_model(torch.device("cpu"))
    patched.detach()
    for each in patched, again:
        assert torch.equal(sample(each, latent), edited)
    assert torch.equal(direction.deltas["middle"], before)
    assert direction.deltas["middle"].dtype == torch.float32


def test_a_model_that_is_mostly_offloaded_is_edited_the_same(pack, host, sample, words):
    import comfy.sd

    model, _, _ = words.load()
    with_lora = comfy.sd.load_lora_for_models(model, None, lora(model), 0.3, 0.0)[0]
    patched = host.inject(with_lora, random_direction(pack, model, (64, 8, 8)), [1.0])
    edited = sample(patched, LATENT)
    for starve in (
        lambda: patched.partially_unload(torch.device("cpu"), 1 << 40),
        lambda: patched.load(torch.device("cpu"), lowvram_model_memory=1),
    ):
        starve()
        assert patched.lowvram_patch_counter() > 0
        # a LoRA is added to each weight as it is used, in float32 as before
        torch.testing.assert_close(sample(patched, LATENT), edited, rtol=1e-4, atol=1e-4)
        patched.detach()
