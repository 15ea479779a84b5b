"""A model's identity: what it would predict, not how it is loaded or compiled at the moment."""

import pytest
import torch
from models import lora, sd15

pytestmark = pytest.mark.comfy


@pytest.fixture
def model():
    return sd15()


def compiled(model):
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    return TorchCompileModel.execute(model, "inductor").result[0]


def compiled_in_place(model):
    """As packs compile that put the compiled UNet where the plain one was."""
    patched = model.clone()
    patched.add_object_patch("diffusion_model", torch.compile(model.get_model_object("diffusion_model")))
    return patched


def with_lora(model, strength=0.8):
    import comfy.sd

    return comfy.sd.load_lora_for_models(model, None, lora(model), strength, 0.0)[0]


def with_a_patch_that_knows_the_unet(model):
    patched, unet = model.clone(), model.model.diffusion_model
    patched.set_model_output_block_patch(lambda h, skip, options: (h, skip) if unet else None)
    return patched


def with_another_time_embedding(model):
    patched = model.clone()
    other = torch.nn.Sequential(*(torch.nn.Linear(*shape) for shape in ((32, 128), (128, 128))))
    for weight in other.parameters():
        torch.nn.init.constant_(weight, 0.01)
    patched.add_object_patch("diffusion_model.time_embed", other)
    return patched


def with_another_prediction(model):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    return ModelSamplingDiscrete().patch(model, "v_prediction", zsnr=False)[0]


LOADED = {
    "whole": lambda model: model.patch_model(torch.device("cpu")),
    "in part": lambda model: model.patch_model(torch.device("cpu"), lowvram_model_memory=100_000),
    "offloaded": lambda model: model.patch_model(torch.device("cpu"), lowvram_model_memory=1),
    "unloaded": lambda model: (model.patch_model(torch.device("cpu")), model.detach()),
}


@pytest.mark.parametrize("compile", [compiled, compiled_in_place])
def test_a_compiled_model_is_the_same_model(host, model, compile):
    identity = host.model_digest(model)
    assert host.model_digest(compile(model)) == identity
    assert host.model_digest(with_lora(compile(model))) == host.model_digest(with_lora(model)) != identity


@pytest.mark.parametrize("load", LOADED.values(), ids=LOADED)
@pytest.mark.parametrize(
    "change",
    [
        lambda model: model, compiled, compiled_in_place, with_a_patch_that_knows_the_unet,
        with_another_time_embedding, with_another_prediction,
    ],
    ids=["plain", "compiled", "compiled in place", "patched", "other time embedding", "other prediction"],
)  # fmt: skip
def test_loading_a_model_with_a_lora_changes_nobodys_identity(host, model, change, load):
    changed = with_lora(change(model))
    relatives = [model, changed, with_lora(model, 0.5), compiled(model)]
    before = [(host.model_digest(each), host.weights_fingerprint(each)) for each in relatives]
    load(changed)
    assert [(host.model_digest(each), host.weights_fingerprint(each)) for each in relatives] == before


def test_another_strength_of_a_lora_is_another_model(host, model):
    digests = {host.model_digest(with_lora(model, strength)) for strength in (0.5, 0.8, -0.8)}
    assert len(digests | {host.model_digest(model)}) == 4


def test_what_a_node_changes_is_another_model_and_its_settings_count(host, model):
    other = with_another_time_embedding(model)
    assert host.model_digest(other) != host.model_digest(model)
    torch.nn.init.constant_(other.object_patches["diffusion_model.time_embed"][0].bias, 0.5)
    assert host.model_digest(other) != host.model_digest(with_another_time_embedding(model))
