"""ComfyUI's own UNet with random weights, in the layouts of Stable Diffusion 1.5 and SDXL: tiny, or in full size."""

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
TINY_SDXL = {
    **SDXL,
    "model_channels": 32,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 2, 2],
    "transformer_depth": [0, 1, 2],
    "transformer_depth_output": [0, 0, 1, 1, 2, 2],
    "transformer_depth_middle": 2,
    "context_dim": 16,
    "num_head_channels": 16,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}
"""With it, and scaled down."""


UNET = {
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
}


def sd15(layout: dict = TINY, **changes):
    """A MODEL of family SD15 whose weights are random but the same every time."""
    from comfy.model_base import BaseModel
    from comfy.supported_models import SD15

    return random_model(SD15, BaseModel, UNET | layout | changes)


def sdxl(layout: dict = TINY_SDXL, **changes):
    """A MODEL of family SDXL whose weights are random but the same every time."""
    from comfy import model_base, supported_models

    return random_model(supported_models.SDXL, model_base.SDXL, UNET | layout | changes)


def random_model(family, base, layout: dict):
    """On the device that ComfyUI computes on, in the layout's dtype; it computes in that where the device can."""
    from comfy import model_management, model_patcher

    unet_config = {"dtype": torch.float32, **layout}
    config = family(unet_config)
    config.unet_config = unet_config
    device, offload_device = model_management.get_torch_device(), model_management.unet_offload_device()
    dtype = unet_config["dtype"]
    config.set_inference_dtype(dtype, model_management.unet_manual_cast(dtype, device))
    model = base(config)
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.diffusion_model.named_parameters():
        fan_in = weight[0].numel() if weight.ndim > 1 else 1
        weight.data = torch.randn(weight.shape, generator=generator) * (0.7 / fan_in**0.5 if weight.ndim > 1 else 0.1)
        if name.endswith("norm.weight") or weight.ndim == 1 and name.endswith("weight"):
            weight.data += 1
        weight.data = weight.data.to(dtype)
    return model_patcher.CoreModelPatcher(model, load_device=device, offload_device=offload_device)


PRECISIONS = {
    "float32": (torch.float32, None),
    "float16 weights": (torch.float16, None),
    "float16": (torch.float16, torch.float16),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
}
"""Of the weights, and what is computed in; None is ComfyUI's choice, on a CPU float32 for any weights."""
QUICK = "float32", "float16 weights", "bfloat16"
"""A CPU takes five times as long in float16: that is for test_half_precision.py."""


def in_precision(precision: str):
    """A tiny model of family SD15 in one of them, as ComfyUI's ModelComputeDtype sets it."""
    weights, computed = PRECISIONS[precision]
    model = sd15(dtype=weights)
    if computed is not None:
        model.set_model_compute_dtype(computed)
    return model


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


def random_direction(pack, model, shape, *, seed: int = 0, scale: float = 1.0):
    """A direction of `model`'s family, another at each of three timesteps."""
    import importlib

    directions = importlib.import_module(f"{pack.__name__}.directions")
    family = importlib.import_module(f"{pack.__name__}.nodes.host").model_family(model)
    return directions.Direction(
        deltas={"middle": scale * torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed))},
        timesteps=torch.tensor([999.0, 500.0, 0.0]),
        name=f"d{seed}",
        method="random",
        unit="one",
        source=directions.Source(family, "0", "positive", (64, 64)),
        recipe="{}",
    )


def controlnet(layout: dict):
    """ComfyUI's own ControlNet for a layout, with random weights: its residual at the middle is not zero."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    names = """
        image_size in_channels model_channels num_res_blocks channel_mult context_dim num_heads use_spatial_transformer
        legacy transformer_depth transformer_depth_middle
    """
    settings = {name: layout[name] for name in names.split()}
    network = comfy.cldm.cldm.ControlNet(hint_channels=3, operations=comfy.ops.disable_weight_init, **settings)
    generator = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        weight.data = 0.05 * torch.randn(weight.shape, generator=generator)
    return comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))


def lora(model, rank: int = 2) -> dict:
    """The file of a LoRA with random weights for the attention of `model`'s UNet."""
    generator, weights = torch.Generator().manual_seed(2), {}
    for name, weight in model.model.diffusion_model.named_parameters():
        if name.endswith(("to_q.weight", "to_out.0.weight")):
            key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            weights[f"{key}.lora_up.weight"] = 0.3 * torch.randn(len(weight), rank, generator=generator)
            weights[f"{key}.lora_down.weight"] = 0.3 * torch.randn(rank, weight.shape[1], generator=generator)
    return weights


class Probe:
    """A patch of the bottleneck that keeps a copy of each h it sees, with the prompts it belongs to."""

    def __init__(self):
        self.h, self.timesteps, self.kinds = [], [], []

    def __call__(self, args: dict) -> dict:
        self.h.append(args["h"].clone())
        self.timesteps.append(args["timesteps"][:1].clone())
        self.kinds.append(list(args["transformer_options"]["cond_or_uncond"]))
        return {"h": args["h"]}


def ksampler(model, latent: dict, positive=None, negative=None, *, steps=2, cfg=3.0, denoise=1.0, seed=0):
    """What ComfyUI's own KSampler makes with euler, `(n, c, h, w)`."""
    import nodes

    prompts = positive or conditioning(1), negative or conditioning(2)
    return nodes.KSampler().sample(model, seed, steps, cfg, "euler", "normal", *prompts, latent, denoise)[0]["samples"]


def probed(model, edit):
    """A model with `edit`, and probes of its h before and after."""
    before, after, patched = Probe(), Probe(), model.clone()
    patched.set_model_middle_block_after_patch(before)
    patched = edit(patched)
    patched.set_model_middle_block_after_patch(after)
    return patched, before, after


def assert_edited(before: Probe, after: Probe, direction, kinds=(0, 1)):
    """Every chunk of `kinds` has the direction, fitted to its size, and no other has: to the bit."""
    assert before.h
    for h, edited, timestep, chunks in zip(before.h, after.h, before.timesteps, before.kinds, strict=True):
        delta = direction.at("middle", timestep)
        if delta.shape[2:] != h.shape[2:]:
            delta = torch.nn.functional.interpolate(delta, h.shape[2:], mode="bilinear", antialias=True)
        parts = zip(chunks, h.chunk(len(chunks)), strict=True)
        assert torch.equal(edited, torch.cat([part + delta if kind in kinds else part for kind, part in parts]))
