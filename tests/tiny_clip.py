"""A CLIP of ComfyUI's own classes, tiny and random, and the same by transformers: the oracle."""

import json
from tempfile import NamedTemporaryFile
from types import SimpleNamespace

import torch

WIDTH = 16


def transformers_halves():
    """Its halves by transformers, of random weights that float16 holds."""
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    shared = dict(num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, projection_dim=WIDTH)
    halves = (
        CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=WIDTH, eos_token_id=49407, **shared)),
        CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_size=24, image_size=64, patch_size=16, **shared)),
    )
    generator = torch.Generator().manual_seed(0)
    for half in halves:
        for name, weight in half.named_parameters():
            weight.data = torch.randn(weight.shape, generator=generator) * (0.3 if weight.ndim > 1 else 0.1)
            weight.data += "norm" in name and name.endswith("weight")
            weight.data = weight.data.half().float()
        half.eval().requires_grad_(False)
    return halves


def comfy_clip(state):
    """Load CLIP, of a tiny clip_l."""
    import comfy.sd
    from comfy import sd1_clip

    tiny = dict(hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    target = SimpleNamespace(params={}, clip=sd1_clip.SD1ClipModel, tokenizer=sd1_clip.SD1Tokenizer)
    return comfy.sd.CLIP(target, state_dict=[state], model_options={"clip_l_model_config": tiny})


def comfy_vision(half):
    import comfy.clip_vision

    config = {key: getattr(half.config, key) for key in (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "image_size",
        "patch_size", "num_channels", "projection_dim", "model_type",
    )}  # fmt: skip
    with NamedTemporaryFile("w", suffix=".json") as file:  # ComfyUI 0.20 takes no dictionary
        json.dump(config, file)
        file.flush()
        vision = comfy.clip_vision.ClipVisionModel(file.name)
    missing, unexpected = vision.load_sd(half.state_dict())
    assert not missing
    assert all("position_ids" in name for name in unexpected)
    vision.model.requires_grad_(False)
    return vision
