"""Every picture depends on its own seed alone, whatever the batch: through ComfyUI's real samplers."""

import importlib

import pytest
import torch
from models import conditioning, core_sample, sd15, sigmas

pytestmark = pytest.mark.comfy

# One of each way to draw noise; a single picture is compared for every sampler there is.
SAMPLERS = [
    "euler",
    "euler_ancestral",
    "dpm_2_ancestral",
    "dpmpp_sde",
    "dpmpp_2m_sde_heun",
    "dpmpp_3m_sde_gpu",
    "heun",
    "lcm",
    "er_sde",
    "uni_pc",
    "dpm_fast",
    "ddim",
    "sa_solver",
]
MIXING = {"dpm_adaptive", "ar_video"}
"""Samplers whose steps depend on the batch, or that make videos."""
LATENT = {"samples": torch.zeros(1, 4, 16, 16)}
# Convolutions of a larger batch add up in another order; a few steps of the UNet grow that rounding.
BATCHED = {"rtol": 1e-3, "atol": 1e-3}


@pytest.fixture(scope="module")
def sampling(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.host.sampling")


@pytest.fixture(scope="module")
def model():
    return sd15()


def sample(sampling, model, sampler, seeds, steps=4, latent=LATENT, cfg=1.0):
    import comfy.samplers

    sampler = comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler
    return sampling.sample(
        model,
        positive=conditioning(1),
        negative=conditioning(2),
        cfg=cfg,
        sampler=sampler,
        sigmas=sigmas(model, steps),
        latent=latent,
        seeds=seeds,
        on_step=lambda x0: None,
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_depends_on_its_seed_alone(sampling, model, sampler):
    batch = sample(sampling, model, sampler, [7, 3, 11])
    shuffled = sample(sampling, model, sampler, [11, 7, 3])
    torch.testing.assert_close(batch, shuffled[[1, 2, 0]], **BATCHED)
    for row, seed in enumerate([7, 3, 11]):
        torch.testing.assert_close(batch[row : row + 1], sample(sampling, model, sampler, [seed]), **BATCHED)


def test_a_single_picture_is_that_of_comfyuis_own_sampler_whichever_it_is(sampling, model):
    import comfy.samplers

    names = [name for name in comfy.samplers.SAMPLER_NAMES if name not in MIXING]
    assert len(names) > 30
    for name in names:
        core = core_sample(model, name, sigmas(model, 3), conditioning(1), conditioning(2), LATENT, seed=7)
        assert torch.equal(sample(sampling, model, name, [7], steps=3), core), name


def test_different_seeds_are_different_pictures(sampling, model):
    a, b = sample(sampling, model, "euler_ancestral", [1, 2])
    assert not torch.allclose(a, b, atol=0.1)


def test_guidance_reaches_the_sampler(sampling, model):
    core = core_sample(model, "euler", sigmas(model, 4), conditioning(1), conditioning(2), LATENT, seed=7, cfg=4.0)
    assert torch.equal(sample(sampling, model, "euler", [7], cfg=4.0), core)


def test_a_picture_to_start_from_and_its_mask_are_respected(sampling, model):
    start = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 128, 128)
    mask[:, :64] = 1
    latent = {"samples": start, "noise_mask": mask}
    core = core_sample(model, "euler", sigmas(model, 4), conditioning(1), conditioning(2), latent, seed=7)
    assert torch.equal(sample(sampling, model, "euler", [7], latent=latent), core)
    torch.testing.assert_close(core[:, :, 9:], start[:, :, 9:])


@pytest.mark.parametrize(
    ("sampler", "options", "reason"),
    [
        ("dpm_adaptive", {}, "chooses its steps by the whole batch"),
        ("euler", {"s_churn": 5.0}, "draws its churn noise for the whole batch"),
    ],
)
def test_samplers_that_mix_a_batch_are_refused_but_for_a_batch_of_one(sampling, model, sampler, options, reason):
    import comfy.samplers

    mixing = comfy.samplers.ksampler(sampler, options)
    with pytest.raises(ValueError, match=f"{reason}.*set batch_size to 1"):
        sample(sampling, model, mixing, [1, 2])
    assert sample(sampling, model, mixing, [1]).isfinite().all()


def test_seeds_beyond_64_bits_are_refused(sampling):
    assert list(sampling.seed_range((1 << 64) - 2, 2)) == [(1 << 64) - 2, (1 << 64) - 1]
    with pytest.raises(ValueError, match="Lower first_seed"):
        sampling.seed_range((1 << 64) - 1, 2)


def test_an_unknown_kind_of_sampler_is_refused_for_batches(sampling, model):
    import comfy.samplers

    class Custom(comfy.samplers.Sampler):
        pass

    with pytest.raises(ValueError, match="Custom may draw noise for the whole batch"):
        sample(sampling, model, Custom(), [1, 2])


def test_a_batch_of_latents_is_refused(sampling, model):
    with pytest.raises(ValueError, match=r"got a batch of shape \(2, 4, 16, 16\)"):
        sampling.single_latent(model, {"samples": torch.zeros(2, 4, 16, 16)})


def test_a_latent_of_another_models_size_is_brought_to_the_models_own_once(sampling, words):
    empty = {"samples": torch.zeros(1, 4, 8, 8), "downscale_ratio_spacial": 8}  # 64 pixels, as for Stable Diffusion
    once = sampling.single_latent(words.model, empty)
    assert once["samples"].shape == (1, 4, 32, 32)  # these faces have half as many
    assert sampling.single_latent(words.model, once)["samples"].shape == once["samples"].shape
