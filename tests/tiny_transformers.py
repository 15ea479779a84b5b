"""Transformers of each family that the pack knows, in ComfyUI's own classes: tiny, with random weights."""

import torch
from models import random_model

WIDTH = 64
_FLUX = {
    "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 24, "context_in_dim": 16,
    "hidden_size": WIDTH, "mlp_ratio": 2.0, "num_heads": 4, "depth": 2, "depth_single_blocks": 2,
    "axes_dim": [4, 6, 6], "theta": 100, "qkv_bias": True, "txt_ids_dims": [],
}  # fmt: skip
_NEXT = {
    "patch_size": 2, "in_channels": 16, "dim": WIDTH, "cap_feat_dim": 16, "n_layers": 2, "n_refiner_layers": 1,
    "qk_norm": True, "n_heads": 4, "n_kv_heads": 4, "axes_dims": [4, 6, 6], "axes_lens": [300, 512, 512],
    "rope_theta": 100.0, "ffn_dim_multiplier": 1.0, "multiple_of": 8,
}  # fmt: skip
LAYOUTS = {
    "Flux": _FLUX | {"guidance_embed": True},
    "Flux2": _FLUX | {
        "vec_in_dim": None, "guidance_embed": True, "axes_dim": [4, 4, 4, 4], "qkv_bias": False, "ops_bias": False,
        "global_modulation": True, "mlp_silu_act": True, "txt_ids_dims": [3], "patch_size": 1, "in_channels": 128,
        "out_channels": 128,
    },
    "Chroma": {key: value for key, value in _FLUX.items() if key != "vec_in_dim"} | {
        "in_channels": 64, "out_channels": 64, "in_dim": 64, "out_dim": WIDTH, "hidden_dim": 32, "n_layers": 1,
        "vec_in_dim": None,
    },
    "SD3": {
        "in_channels": 16, "out_channels": 16, "pos_embed_scaling_factor": None, "patch_size": 2, "depth": 2,
        "input_size": None, "adm_in_channels": 24, "num_patches": 36864, "pos_embed_max_size": 192,
        "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 16, "out_features": 128}},
        "qk_norm": "rms",
    },
    "QwenImage": {
        "in_channels": 64, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 4,
        "joint_attention_dim": 16, "axes_dims_rope": (4, 6, 6),
    },
    "Lumina2": _NEXT,
    "ZImage": _NEXT | {"dim": 256, "n_heads": 16, "n_kv_heads": 16, "z_image_modulation": True, "time_scale": 1000.0,
                       "pad_tokens_multiple": 32},
    "WAN21_T2V": {
        "model_type": "t2v", "dim": WIDTH, "ffn_dim": 64, "num_heads": 4, "num_layers": 2, "in_dim": 16, "out_dim": 16,
        "text_dim": 16, "patch_size": (1, 2, 2), "freq_dim": 32, "text_len": 7,
    },
    "HunyuanVideo": {key: value for key, value in _FLUX.items() if key != "txt_ids_dims"} | {
        "patch_size": [1, 2, 2], "guidance_embed": True, "byt5": False, "meanflow": False, "meanflow_sum": False,
        "use_cond_type_embedding": False, "vision_in_dim": None,
    },
}  # fmt: skip
"""By the name of ComfyUI's family."""


def transformer(family: str, **changes):
    """A MODEL of this family whose weights are random but the same every time."""
    from comfy import supported_models

    config = getattr(supported_models, family)
    return random_model(config, lambda made: made.get_model({}), LAYOUTS[family] | changes)


def prompt(seed: int, tokens: int = 7):
    """A prompt's embedding, random, with what a family asks for besides."""
    draw = torch.Generator().manual_seed(seed)
    pooled = torch.randn(1, 24, generator=draw)
    return [[torch.randn(1, tokens, 16, generator=draw), {"pooled_output": pooled, "guidance": 3.5}]]


def latent_of(model, *, height: int = 6, width: int = 10, frames: int = 1) -> dict:
    """An empty latent of the model's own kind."""
    kind = model.get_model_object("latent_format")
    size = (frames, height, width) if kind.latent_dimensions == 3 else (height, width)
    return {"samples": torch.zeros(1, kind.latent_channels, *size)}
