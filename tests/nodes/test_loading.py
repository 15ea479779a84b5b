"""Models that are needed while others are in use are loaded beside them, where the work is done."""

import pytest
import torch
from differentiating import objective, tiny_vae
from models import sd15

pytestmark = pytest.mark.comfy


@pytest.fixture
def in_use(faces):
    """A model that is loaded, and no other is."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    model = sd15()
    comfy.model_management.load_models_gpu([model])
    return model


def is_loaded(patcher) -> bool:
    import comfy.model_management

    return any(each is patcher for each in comfy.model_management.loaded_models())


def test_a_vae_is_loaded_before_it_decodes(faces, in_use):
    vae = tiny_vae()
    assert not is_loaded(vae.patcher)
    with torch.no_grad():
        faces.module("nodes.host.decoding").decoded_with_gradient(vae, torch.zeros(1, 4, 8, 8))
    assert is_loaded(vae.patcher) and is_loaded(in_use)


def test_a_judge_is_loaded_before_it_sees(faces, in_use):
    judge = objective(faces)
    assert not is_loaded(judge.patcher)
    with torch.no_grad():
        judge.features(torch.rand(1, 3, 40, 48))
    assert is_loaded(judge.patcher) and is_loaded(in_use)
