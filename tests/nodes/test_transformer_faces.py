"""The demo faces of the transformer: Flux's architecture, its words, and an edit of it."""

import json

import pytest
import torch
from prompted_faces import SENTENCE, PromptedFaces
from safetensors import safe_open

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def faces(pack):
    return PromptedFaces(pack, "Flux")


@pytest.fixture(scope="module")
def judge(host):
    host.register_folders()
    return host.load_classifier("demo attributes (built in)")


def as_diffusers(network, settings: dict) -> dict[str, torch.Tensor]:
    """Weights by the names that diffusers has for them, of which some are a part of ComfyUI's."""
    from comfy.utils import flux_to_diffusers

    weights, named = network.state_dict(), {}
    for theirs, ours in flux_to_diffusers(settings).items():
        name, part, changed = (ours, None, None) if isinstance(ours, str) else (*ours, None)[:3]
        if name in weights:
            weight = weights[name]
            weight = weight if part is None else weight.narrow(*part)
            named[theirs] = weight if changed is None else changed(weight)
    return named


def test_it_predicts_what_diffusers_does(host, faces):
    """The architecture is Flux's: nothing of ComfyUI computes the other side."""
    from diffusers import FluxTransformer2DModel

    _, path = host.DEMO_CHECKPOINTS.values()
    with safe_open(path, "pt") as file:
        settings = json.loads(file.metadata()["settings"])["transformer"]
    network = faces.model.model.diffusion_model
    theirs = FluxTransformer2DModel(
        in_channels=64, num_layers=settings["depth"], num_single_layers=settings["depth_single_blocks"],
        attention_head_dim=settings["hidden_size"] // settings["num_heads"], num_attention_heads=settings["num_heads"],
        joint_attention_dim=64, pooled_projection_dim=64, axes_dims_rope=tuple(settings["axes_dim"]),
    ).eval()  # fmt: skip
    theirs.pos_embed.theta = settings["theta"]
    weights = as_diffusers(network, settings)
    theirs.load_state_dict({name: weights[name].float() for name in theirs.state_dict()})
    x, sigma = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([0.9, 0.3])
    ((words, more),) = faces.encode(SENTENCE)
    words, summary = words.expand(2, -1, -1), more["pooled_output"].expand(2, -1)
    tokens = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(2, 64, 64)
    places = torch.stack([torch.zeros(64), torch.arange(64) // 8, torch.arange(64) % 8], 1)
    with torch.no_grad():
        wanted = theirs(tokens, words, summary, sigma, places, torch.zeros(words.shape[1], 3)).sample
        got = network(x.clone(), sigma, words, summary)
    wanted = wanted.reshape(2, 8, 8, 4, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(2, 4, 32, 32)
    torch.testing.assert_close(got, wanted, atol=2e-4, rtol=0)  # sums of eight blocks in float32


def test_words_decide_what_is_drawn(faces, judge):
    """All but one of six; the card has the shares of 64."""
    texts = {
        1: "a smiling old man with glasses, with a beard, with long hair",
        -1: "a frowning young man without glasses, without a beard, with short hair",
    }
    middle = {"smile": 0.15, "glasses": 0.5, "age": 0.5, "beard": 0.5, "hair_length": 0.5}
    for sign, text in texts.items():
        scores = judge.scores(faces.draw(text, count=6, steps=8, scheduler="simple"))
        for attribute, border in middle.items():
            said = sign * (scores[:, judge.columns.index(attribute)] - border) > 0
            assert said.sum() >= 5, (text, attribute)
