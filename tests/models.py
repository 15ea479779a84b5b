"""ComfyUI's own UNet with random weights, in the layout of Stable Diffusion 1.5: tiny, or in full size."""

import torch

TINY = {
    "model_channels": 32,
    "num_res_blocks": [1, 1, 1, 1],
    "channel_mult": [1, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 0, 0],
    "context_dim": 16,
    "num_heads": 4,
}
FULL = {
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": 768,
    "num_heads": 8,
}
SDXL = {
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "context_dim": 2048,
    "num_heads": -1,
    "num_head_channels": 64,
    "use_linear_in_transformer": True,
}
"""SDXL's UNet without its vector of sizes, which does not reach the decoder but through the time embedding."""


def sd15(layout: dict = TINY, **changes):
    """A MODEL of family SD15 whose weights are random but the same every time."""
    from comfy.model_base import BaseModel
    from comfy.model_patcher import ModelPatcher
    from comfy.supported_models import SD15

    unet_config = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "use_spatial_transformer": True,
        "legacy": False,
        "adm_in_channels": None,
        "transformer_depth_middle": 1,
        "use_linear_in_transformer": False,
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        "num_head_channels": -1,
        "dtype": torch.float32,
        **layout,
        **changes,
    }
    config = SD15(unet_config)
    config.unet_config = unet_config
    model = BaseModel(config)
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.diffusion_model.named_parameters():
        fan_in = weight[0].numel() if weight.ndim > 1 else 1
        weight.data = torch.randn(weight.shape, generator=generator) * (0.7 / fan_in**0.5 if weight.ndim > 1 else 0.1)
        if name.endswith("norm.weight") or weight.ndim == 1 and name.endswith("weight"):
            weight.data += 1
    cpu = torch.device("cpu")
    return ModelPatcher(model, load_device=cpu, offload_device=cpu)


def conditioning(seed: int, width: int = 16):
    """A prompt's embedding, random."""
    return [[torch.randn(1, 7, width, generator=torch.Generator().manual_seed(seed)), {}]]


def sigmas(model, steps: int, scheduler: str = "normal"):
    import comfy.samplers

    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)


def core_sample(model, sampler: str, sigmas, positive, negative, latent, seed: int, cfg: float = 1.0):
    """What ComfyUI's own SamplerCustom makes, `(n, c, h, w)`."""
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import SamplerCustom

    sampler = comfy.samplers.sampler_object(sampler)
    return SamplerCustom.execute(model, True, seed, cfg, positive, negative, sampler, sigmas, latent).result[0][
        "samples"
    ]
