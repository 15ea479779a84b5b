"""The networks of the prompted faces: Stable Diffusion 1.x in ComfyUI's own classes, scaled down.

Needs ComfyUI on the path. Importing this makes ComfyUI compute on the CPU.
"""

from comfy.cli_args import args

args.cpu = args.use_pytorch_cross_attention = True  # before the rest of ComfyUI looks for a graphics card

import comfy.ops  # noqa: E402
from comfy.ldm.models.autoencoder import AutoencoderKL  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402
from comfy.sd1_clip import SDTokenizer  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # noqa: E402

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 1, 1],
    "transformer_depth": [0, 0, 1, 1, 1, 1],
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": 64,
    "num_heads": 4,
    "num_head_channels": -1,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
}
"""Stable Diffusion 1.x has four levels, so that its latents of 64x64 are 8x8 at the bottleneck, as these of 32x32 are;
320 channels, (1, 2, 4, 4); 8 heads; words 768 wide; and attends at the top level too."""

TEXT = {
    "architectures": ["CLIPTextModel"],
    "bos_token_id": 0,
    "eos_token_id": 49407,
    "hidden_act": "quick_gelu",
    "hidden_size": 64,
    "intermediate_size": 256,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 49408,
}
"""Stable Diffusion 1.x has 768, 12 heads and 12 layers."""

VAE = {
    "embed_dim": 4,
    "ddconfig": {
        "double_z": True,
        "z_channels": 4,
        "resolution": 64,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 64,
        "ch_mult": [1, 1],
        "num_res_blocks": 0,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
}
"""One level down: a picture of 64x64 is a latent of 32x32. Stable Diffusion 1.x has three, and 128 channels.

Not fewer than 64: normalised in 32 groups, each channel would be a group, and a picture would lose its colours."""


def build_unet() -> UNetModel:
    """3.2 million parameters, nine blocks down and nine up, 64x8x8 at the bottleneck for a latent of 32x32."""
    return initialised(UNetModel(**UNET, operations=comfy.ops.disable_weight_init))


def build_text_encoder() -> CLIPTextModel:
    """Words 64 wide; 3.2 of its 3.3 million parameters are rows of tokens, most of which no caption has.

    transformers', whose weights have the names they have in ComfyUI: ComfyUI's own adds in place and can't be trained.
    """
    return initialised(CLIPTextModel(CLIPTextConfig(**TEXT)))


def build_vae() -> AutoencoderKL:
    """0.6 million parameters."""
    return initialised(AutoencoderKL(**VAE))


def encoded(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Latents `(n, 4, 32, 32)` of pictures `(n, 3, 64, 64)` in -1..1: the mean, which is all that is learnt."""
    latents: Tensor = vae.quant_conv(vae.encoder(pictures))[:, : VAE["embed_dim"]]
    return latents


def tokenizer() -> CLIPTokenizer:
    """CLIP's, which ComfyUI ships."""
    return SDTokenizer().tokenizer


def initialised(network: nn.Module) -> nn.Module:
    """torch's own random weights: ComfyUI's layers leave them as the memory was."""
    for module in network.modules():
        for kind in (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm):
            if isinstance(module, kind):
                kind.reset_parameters(module)
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.1)
    return network.float()
