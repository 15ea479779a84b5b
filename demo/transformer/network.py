"""The transformer of the prompted faces: Flux 1 in ComfyUI's own class, scaled down.

Needs ComfyUI on the path. Importing this makes ComfyUI compute on the CPU.
"""

from networks import TEXT, VAE, initialised  # first: it sees to the CPU
from torch import nn

# isort: split
import comfy.model_management
import comfy.ops
from comfy.ldm.flux.model import Flux

comfy.model_management.in_training = True  # core's word for: positions by operations that can be differentiated

FLUX = {
    "image_model": "flux",
    "in_channels": VAE["embed_dim"],
    "out_channels": VAE["embed_dim"],
    "patch_size": 4,
    "vec_in_dim": TEXT["hidden_size"],
    "context_in_dim": TEXT["hidden_size"],
    "hidden_size": 128,
    "mlp_ratio": 4.0,
    "num_heads": 4,
    "depth": 3,
    "depth_single_blocks": 5,
    "axes_dim": [8, 12, 12],
    "txt_ids_dims": [],
    "theta": 100,
    "qkv_bias": True,
    "guidance_embed": False,
}
"""Flux 1 has 16 channels in patches of 2x2, 24 heads of 128, 19 double and 38 single blocks, and theta 10,000. A latent
of 32x32 is 8x8 tokens here, as many as h of the UNet has places."""


def build_transformer() -> Flux:
    """3.1 million parameters; each block begins as the identity (Peebles & Xie, DiT: adaLN-Zero)."""
    flux = initialised(Flux(**FLUX, operations=comfy.ops.disable_weight_init))
    modulations = [module.lin for module in flux.modules() if hasattr(module, "lin") and hasattr(module, "multiplier")]
    for layer in (*modulations, flux.final_layer.adaLN_modulation[1], flux.final_layer.linear):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return flux
