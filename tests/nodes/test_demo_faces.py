"""The demo faces that listen to words: Stable Diffusion's architecture, its words, and files that are damaged."""

import json
from types import SimpleNamespace

import pytest
import torch
from prompted_faces import SENTENCE
from safetensors import safe_open
from safetensors.torch import save_file

pytestmark = pytest.mark.comfy

TEXT, UNET = "cond_stage_model.clip_l.transformer.", "model.diffusion_model."


@pytest.fixture(scope="module")
def checkpoint(host):
    path, _ = host.DEMO_CHECKPOINTS.values()
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it has no other
        return SimpleNamespace(path=path, metadata=file.metadata(), tensors=tensors)


@pytest.fixture
def load(host, tmp_path):
    """Loads the checkpoint with other tensors or settings."""

    def load(tensors, metadata):
        save_file(tensors, tmp_path / "faces.safetensors", metadata=metadata)
        return host.load_prompted_faces(tmp_path / "faces.safetensors")

    return load


@pytest.fixture(scope="module")
def judge(host):
    host.register_folders()
    return host.load_classifier("demo attributes (built in)")


def part(tensors, prefix):
    return {name.removeprefix(prefix): each.float() for name, each in tensors.items() if name.startswith(prefix)}


def test_it_predicts_what_diffusers_and_transformers_do(words, checkpoint):
    """The architecture is Stable Diffusion's: nothing of ComfyUI computes the other side."""
    from comfy.utils import unet_to_diffusers
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    settings = json.loads(checkpoint.metadata["settings"])
    blocks = {True: "CrossAttn", False: ""}
    attends = [depth > 0 for depth in settings["unet"]["transformer_depth"][::2]]
    unet = UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=[settings["unet"]["model_channels"] * m for m in settings["unet"]["channel_mult"]],
        down_block_types=[f"{blocks[each]}DownBlock2D" for each in attends],
        up_block_types=[f"{blocks[each]}UpBlock2D" for each in reversed(attends)],
        cross_attention_dim=64,
        attention_head_dim=settings["unet"]["num_heads"],
    ).eval()
    weights = part(checkpoint.tensors, UNET)
    names = {ours: theirs for theirs, ours in unet_to_diffusers(settings["unet"]).items()}
    unet.load_state_dict({names[name]: weight for name, weight in weights.items()})

    text = CLIPTextModel(CLIPTextConfig(**settings["text"])).eval()
    (tokens,) = words.clip.tokenize(SENTENCE)["l"]
    tokens = torch.tensor([[token for token, _ in tokens]])
    known = checkpoint.tensors["known_tokens"].tolist()
    assert set(tokens.flatten().tolist()) <= set(known)
    weights = part(checkpoint.tensors, f"{TEXT}text_model.")
    rows = weights.pop("embeddings.token_embedding.weight")
    inside = getattr(text, "text_model", text)
    missing, unexpected = inside.load_state_dict(weights, strict=False)
    assert missing == ["embeddings.token_embedding.weight"] and not unexpected
    inside.embeddings.token_embedding.weight.data[known] = rows[:-1]

    x, t = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([701.0, 20.0])
    with torch.no_grad():
        context = text(tokens).last_hidden_state
        wanted = unet(x, t, context.expand(2, -1, -1)).sample
        ((ours, _),) = words.encode(SENTENCE)
        got = words.model.model.diffusion_model(x, t, context=ours.expand(2, -1, -1))
    torch.testing.assert_close(ours, context, atol=1e-5, rtol=0)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


def test_words_decide_what_is_drawn(words, judge):
    """All but one of six; the card has the shares of 64."""
    texts = {
        1: "a smiling old man with glasses, with a beard, with long hair",
        -1: "a frowning young man without glasses, without a beard, with short hair",
    }
    middle = {"smile": 0.15, "glasses": 0.5, "age": 0.5, "beard": 0.5, "hair_length": 0.5}
    for sign, text in texts.items():
        scores = judge.scores(words.draw(text, count=6, steps=8))
        for attribute, border in middle.items():
            said = sign * (scores[:, judge.columns.index(attribute)] - border) > 0
            assert said.sum() >= 5, (text, attribute)


def test_a_weight_strengthens_a_word(words, judge):
    age = [
        judge.scores(words.draw(f"portrait of an (old:{weight}) person", count=4, steps=6, cfg=1.5))[:, 2].mean()
        for weight in (0.0, 0.6, 1.0)
    ]
    assert age[0] < age[1] < age[2]


def test_every_sampler_at_every_guidance_is_finite(words):
    import comfy.samplers

    for sampler in comfy.samplers.KSampler.SAMPLERS:
        for cfg in (1.0, 10.0):
            assert words.draw(SENTENCE, sampler=sampler, cfg=cfg, size=32, steps=2).isfinite().all(), (sampler, cfg)


def test_every_scheduler_is_finite(words):
    import comfy.samplers

    for scheduler in comfy.samplers.KSampler.SCHEDULERS:
        assert words.draw(SENTENCE, scheduler=scheduler, size=32).isfinite().all(), scheduler


@pytest.mark.parametrize(
    "text", ["", "word " * 300, "\u5fae\u7b11\u7684\u8001\u4eba", "улыбка", "\U0001f600", "(((", "a:1.3)"]
)
def test_any_prompt_draws_a_face(words, text):
    picture = words.draw(text)
    assert picture.isfinite().all() and picture.std() > 0.1


def test_unknown_words_do_no_harm(words, judge):
    """A smile among words that no caption had is still a smile."""
    text = "smiling, cinematic lighting, unreal engine, zebra"
    assert (judge.scores(words.draw(text, count=6, steps=6))[:, 1] > 0.15).sum() >= 5


def test_a_picture_comes_back_from_its_latent(words):
    from hspace_pack.demo.faces import render_batch

    pictures = torch.from_numpy(render_batch(16, seed=123)[0]).float() / 255
    latents = words.vae.encode(pictures)
    assert latents.shape == (16, 4, 32, 32)
    assert (words.vae.decode(latents) - pictures).abs().mean() < 0.02  # five levels of 255


def test_a_damaged_file_is_refused(load, checkpoint, tmp_path, host):
    unet = next(name for name in checkpoint.tensors if name.startswith(UNET))
    without = {name: each for name, each in checkpoint.tensors.items() if name != unet}
    wrong = checkpoint.tensors | {unet: checkpoint.tensors[unet][..., :1].clone()}
    for tensors, metadata in (
        (without, checkpoint.metadata),
        (wrong, checkpoint.metadata),
        (checkpoint.tensors, {}),
        (checkpoint.tensors, {"settings": "{"}),
        (checkpoint.tensors, {"settings": "[]"}),
    ):
        with pytest.raises(ValueError, match=r"(?s)faces.safetensors is damaged.*Install the pack again"):
            load(tensors, metadata)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cut.safetensors is damaged"):
        host.load_prompted_faces(cut)
