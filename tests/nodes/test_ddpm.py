"""Load DDPM against diffusers itself, in the real ComfyUI."""

import importlib
import json

import pytest
import torch

from tools.comfyui import ROOT

DEMO = ROOT / "demo" / "ddpm"

pytestmark = pytest.mark.comfy

TINY = {
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
}
# config.json of google/ddpm-ema-celebahq-256
PAPER = {
    "sample_size": 256,
    "layers_per_block": 2,
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "down_block_types": (*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4),
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def load(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.capture.load_ddpm")


@pytest.fixture
def folder(tmp_path):
    """A small random model, epsilon prediction, in diffusers format."""
    return save_model(tmp_path / "tiny", TINY)


@pytest.fixture(params=["demo, v prediction", "tiny, epsilon"])
def trained(request, load, folder):
    return DEMO if request.param.startswith("demo") else folder


def save_model(folder, config):
    from diffusers import DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    UNet2DModel(**config).save_pretrained(folder)
    DDPMScheduler(clip_sample=True).save_pretrained(folder)
    return folder


def diffusers_unet(folder):
    from diffusers import UNet2DModel

    unet = UNet2DModel.from_pretrained(folder, local_files_only=True, torch_dtype=torch.float32).eval()
    # diffusers leaves float32 weights in the mapped file, where they aren't aligned: the CPU's kernels then add up in
    # another order (3e-6 in the papers' architecture).
    unet.load_state_dict({name: weight.clone() for name, weight in unet.state_dict().items()}, assign=True)
    return unet


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder, change):
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)


def inputs(model):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, *model.model.image_size, generator=generator), torch.tensor([999.0, 10.0])


@torch.no_grad()
def assert_equals_diffusers(model, reference, x, timesteps):
    # The same operations on the same values: not one bit differs.
    ours = model.model.diffusion_model(x, timesteps)
    assert torch.equal(ours, reference(x, timesteps).sample)


def test_the_model_equals_diffusers_on_the_same_weights(load, trained):
    model = load.load_ddpm(trained)
    assert_equals_diffusers(model, diffusers_unet(trained), *inputs(model))


@pytest.mark.slow
def test_the_papers_architecture_equals_diffusers(load, tmp_path):
    model = load.load_ddpm(save_model(tmp_path, PAPER))
    x, timesteps = inputs(model)
    assert model.model.image_size == (256, 256)
    assert_equals_diffusers(model, diffusers_unet(tmp_path), x[:1], timesteps[:1])


def test_attention_named_as_before_diffusers_0_15_equals_diffusers(load, folder):
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}

    def rename(weights):
        for new, name in old.items():
            weights = {key.replace(new, name): weight for key, weight in weights.items()}
        return weights

    change_weights(folder, rename)
    model = load.load_ddpm(folder)
    assert_equals_diffusers(model, diffusers_unet(folder), *inputs(model))


def test_a_saved_pipeline_in_half_precision_runs_in_float32(load, tmp_path, folder):
    change_weights(folder, lambda weights: {name: weight.half() for name, weight in weights.items()})
    expected = diffusers_unet(folder)
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "scheduler").mkdir()
    (folder / "scheduler_config.json").rename(tmp_path / "pipeline" / "scheduler" / "scheduler_config.json")
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    folder.rename(tmp_path / "pipeline" / "unet")
    model = load.load_ddpm(tmp_path / "pipeline")
    assert model.model.get_dtype_inference() == torch.float32
    assert_equals_diffusers(model, expected, *inputs(model))


@torch.no_grad()
def test_encode_then_decode_is_forward_bit_for_bit(load, trained):
    model = load.load_ddpm(trained)
    unet = model.model.diffusion_model
    x, timesteps = inputs(model)
    assert torch.equal(unet.decode(*unet.encode(x, timesteps)), unet(x, timesteps))


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
def test_the_noise_schedule_is_that_of_diffusers(load, folder, schedule):
    from diffusers import DDPMScheduler

    change_json(folder / "scheduler_config.json", beta_schedule=schedule)
    betas = DDPMScheduler.from_pretrained(folder).betas
    # In double: at timestep 0 diffusers' own float32 product has lost three digits of 1 - alpha.
    alphas = torch.cumprod(1 - betas.double(), dim=0)
    sigmas = load.load_ddpm(folder).get_model_object("model_sampling").sigmas
    torch.testing.assert_close(sigmas.double(), ((1 - alphas) / alphas).sqrt(), rtol=1e-5, atol=0)


def ddim(folder, noise, noises, eta):
    """diffusers' own trajectory, and the timesteps of its steps."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_pretrained(folder, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(len(noises))
    unet, x = diffusers_unet(folder), noise
    with torch.no_grad():
        for timestep, fresh in zip(scheduler.timesteps, noises, strict=True):
            x = scheduler.step(unet(x, timestep).sample, timestep, x, eta=eta, variance_noise=fresh).prev_sample
    return x, scheduler.timesteps


def sample(model, noise, noises, eta, timesteps):
    """ComfyUI's trajectory: an ancestral Euler step is a DDIM step, with eta 0 a plain Euler step."""
    import comfy.sample
    from comfy.k_diffusion.sampling import sample_euler, sample_euler_ancestral
    from comfy.samplers import KSAMPLER

    fresh = iter(noises)
    options = {"eta": eta, "noise_sampler": lambda sigma, sigma_next: next(fresh)} if eta else {}
    sampler = KSAMPLER(sample_euler_ancestral if eta else sample_euler, options)
    sigmas = model.get_model_object("model_sampling").sigmas[timesteps]
    empty = [[torch.zeros(1, 1, 1), {}]]
    schedule = torch.cat([sigmas, torch.zeros(1)])
    latent = torch.zeros_like(noise)
    return comfy.sample.sample_custom(model, noise, 1.0, sampler, schedule, empty, empty, latent, disable_pbar=True)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_trajectory_equals_ddim_of_diffusers(load, trained, eta):
    model = load.load_ddpm(trained)
    noise, _ = inputs(model)
    noises = list(torch.randn(20, *noise.shape, generator=torch.Generator().manual_seed(2)))
    expected, timesteps = ddim(trained, noise, noises, eta)
    latent = sample(model, noise, noises, eta, timesteps)
    # Relative to the largest pixel: an untrained epsilon model ends far outside -1..1.
    assert (latent - expected).abs().max() < 1e-3 * expected.abs().max().clamp(min=1)


def test_the_patch_point_fires_once_a_model_call_with_h_and_the_timestep(load):
    model, calls = load.load_ddpm(DEMO), []
    config = model.model.diffusion_model.config

    def watch(args):
        calls.append((tuple(args["h"].shape), args["timesteps"].tolist(), args["transformer_options"]["block"]))
        return {"h": args["h"]}

    noise, _ = inputs(model)
    timesteps = torch.tensor([999, 500, 3])
    unpatched = sample(model, noise, [None] * 3, 0, timesteps)
    model.set_model_middle_block_after_patch(watch)
    assert torch.equal(sample(model, noise, [None] * 3, 0, timesteps), unpatched)
    side = config.sample_size // 2 ** (len(config.block_out_channels) - 1)
    shape = (2, config.block_out_channels[-1], side, side)
    assert calls == [(shape, [t, t], ("middle", 0)) for t in (999.0, 500.0, 3.0)]


def test_what_a_patch_returns_is_decoded(load, folder):
    unet = load.load_ddpm(folder).model.diffusion_model
    x, timesteps = torch.randn(1, 3, 16, 16), torch.tensor([5.0])
    options = {"patches": {"middle_block_after_patch": [lambda args: {"h": args["h"] + 1}]}}
    h, skips, emb = unet.encode(x, timesteps)
    assert torch.equal(unet(x, timesteps, transformer_options=options), unet.decode(h + 1, skips, emb))


def test_the_nodes_outputs_make_a_picture_with_core_nodes(load):
    import nodes

    model, vae, conditioning, latent = load.HSpaceLoadDDPM.execute(load.DEMO_MODEL).args
    (both,) = nodes.ConditioningCombine().combine(conditioning, conditioning)
    (zeroed,) = nodes.ConditioningZeroOut().zero_out(both)
    (sampled,) = nodes.KSampler().sample(model, 0, 2, 2.0, "euler_ancestral", "normal", both, zeroed, latent)
    assert sampled["samples"].shape == latent["samples"].shape
    (image,) = nodes.VAEDecode().decode(vae, sampled)
    assert image.shape == (1, *model.model.image_size, 3)
    assert image.min() >= 0 and image.max() <= 1


def test_an_exchanged_model_is_loaded_again(load, folder, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda kind: [str(folder.parent)])
    before = load.HSpaceLoadDDPM.fingerprint_inputs("tiny")
    assert load.HSpaceLoadDDPM.fingerprint_inputs("tiny") == before
    change_weights(folder, lambda weights: {name: weight + 1 for name, weight in weights.items()})
    assert load.HSpaceLoadDDPM.fingerprint_inputs("tiny") != before


@pytest.mark.parametrize("name", ["../tiny", "/etc", "tiny/../tiny", "", "no such model"])
def test_a_name_that_is_not_in_the_list_is_refused(load, folder, name, monkeypatch):
    import folder_paths

    (folder.parent / "models").mkdir()
    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda kind: [str(folder.parent / "models")])
    assert list(load.model_folders()) == [load.DEMO_MODEL]
    with pytest.raises(ValueError, match=f'got "{name}", wanted one of'):
        load.model_folder(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction_type": "sample"}, "got prediction_type 'sample', wanted epsilon or v_prediction"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "got beta_schedule 'squaredcos_cap_v2', wanted linear or scaled"),
        ({"beta_schedule": None}, "got beta_schedule None"),
        ({"beta_end": None}, "got beta_start 0.0001 and beta_end None"),
        ({"num_train_timesteps": 4000}, "got num_train_timesteps 4000, wanted 1000"),
        ({"trained_betas": [0.1] * 1000}, "got trained_betas"),
        ({"rescale_betas_zero_snr": True}, "got rescale_betas_zero_snr True"),
        ({"thresholding": True}, "got thresholding True"),
    ],
)
def test_a_noise_schedule_that_comfyui_lacks_is_refused(load, folder, changes, message):
    change_json(folder / "scheduler_config.json", **changes)
    with pytest.raises(ValueError, match=message):
        load.load_ddpm(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "got no config.json of a UNet2DModel"),
        ({"num_class_embeds": 10}, "got num_class_embeds 10, wanted None"),
        ({"class_embed_type": "timestep"}, "got class_embed_type 'timestep', wanted None"),
        ({"mid_block_type": None}, "got mid_block_type None, wanted 'UNetMidBlock2D'"),
        ({"time_embedding_type": "fourier"}, "got time_embedding_type 'fourier', wanted 'positional'"),
        ({"down_block_types": ["SkipDownBlock2D"] * 2}, "got down_block_types .*SkipDownBlock2D"),
        ({"out_channels": 6}, "got out_channels 6, wanted 3"),
        ({"sample_size": None}, "got no sample_size"),
        ({"novelty": 1}, "doesn't describe a UNet2DModel of this diffusers .*novelty"),
        ({"block_out_channels": [8, 32]}, "tensors of another shape .such as .*, wanted the"),
    ],
)
def test_a_unet_that_is_not_covered_is_refused(load, folder, changes, message):
    change_json(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=message):
        load.load_ddpm(folder)


def test_a_truncated_file_is_refused(load, folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1000])
    with pytest.raises(ValueError, match="damaged: got .* bytes .*, wanted a complete safetensors"):
        load.load_ddpm(folder)


def test_a_foreign_file_is_refused(load, folder):
    change_weights(folder, lambda weights: {"lora": torch.zeros(1), "conv_in.weight": weights["conv_in.weight"]})
    with pytest.raises(ValueError, match="tensors missing .such as .* and 1 tensors unexpected .such as .lora"):
        load.load_ddpm(folder)


def test_a_pickle_is_refused(load, folder):
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="got diffusion_pytorch_model.bin, wanted diffusion_pytorch_model.safetensors"):
        load.load_ddpm(folder)


def test_a_folder_without_its_noise_schedule_is_refused(load, folder):
    (folder / "scheduler_config.json").unlink()
    with pytest.raises(ValueError, match="got no scheduler_config.json"):
        load.load_ddpm(folder)


def test_a_patch_elsewhere_than_the_bottleneck_is_refused(load, folder):
    unet = load.load_ddpm(folder).model.diffusion_model
    x, timesteps = torch.zeros(1, 3, 16, 16), torch.zeros(1)
    with pytest.raises(ValueError, match="got output_block_patch, wanted middle_block_after_patch"):
        unet(x, timesteps, transformer_options={"patches": {"output_block_patch": [print]}})
    with pytest.raises(ValueError, match="got control"):
        unet(x, timesteps, control={"middle": [x]})


@pytest.mark.parametrize("shape", [(1, 4, 16, 16), (1, 3, 15, 16)])
def test_a_latent_that_does_not_fit_is_refused(load, folder, shape):
    unet = load.load_ddpm(folder).model.diffusion_model
    with pytest.raises(ValueError, match=f"got a latent of {shape[1]} channels, 16x{shape[2]}, wanted 3 channels"):
        unet(torch.zeros(shape), torch.zeros(1))
