"""Checkpoints of random weights in the exact layouts of Stable Diffusion and its kin, which core's own loaders accept.

A UNet and a VAE, without a text encoder: `write_checkpoint("SDXL", torch.float16, path)`, then CheckpointLoaderSimple,
or UNETLoader for the UNet alone. Shapes are those of ComfyUI's own classes, built on the meta device; a file is written
tensor by tensor, so that no more than one of them is in memory.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

_COMMON = {
    "use_checkpoint": False,
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "use_spatial_transformer": True,
    "legacy": False,
    "model_channels": 320,
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
}
_SD = {
    **_COMMON,
    "adm_in_channels": None,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
}
_SD1 = {**_SD, "context_dim": 768, "use_linear_in_transformer": False}
_SD2 = {**_SD, "context_dim": 1024, "use_linear_in_transformer": True}
_XL = {
    **_COMMON,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "context_dim": 2048,
    "use_linear_in_transformer": True,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
}
_XS = {"num_res_blocks": [1, 1, 1], "channel_mult": [1, 2, 4], "transformer_depth_middle": -2}

LAYOUTS: dict[str, dict] = {
    "SD 1.5": _SD1,
    "SD 2": _SD2,
    "SD 2 v-prediction": _SD2,
    "SDXL": {
        **_XL,
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
    },
    "SDXL refiner": {
        **_XL,
        "adm_in_channels": 2560,
        "context_dim": 1280,
        "model_channels": 384,
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [0, 0, 4, 4, 4, 4, 0, 0],
        "transformer_depth_output": [0, 0, 0, 4, 4, 4, 4, 4, 4, 0, 0, 0],
        "transformer_depth_middle": 4,
    },
    "SSD-1B": {
        **_XL,
        "transformer_depth": [0, 0, 2, 2, 4, 4],
        "transformer_depth_output": [0, 0, 0, 1, 1, 2, 10, 4, 4],
        "transformer_depth_middle": -1,
    },
    "Segmind Vega": {
        **_XL,
        "transformer_depth": [0, 0, 1, 1, 2, 2],
        "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
        "transformer_depth_middle": -1,
    },
    "KOALA-1B": {
        **_XL,
        "num_res_blocks": [1, 1, 1],
        "transformer_depth": [0, 2, 6],
        "transformer_depth_output": [0, 0, 2, 2, 6, 6],
        "transformer_depth_middle": 6,
    },
    "KOALA-700M": {
        **_XL,
        **_XS,
        "transformer_depth": [0, 2, 5],
        "transformer_depth_output": [0, 0, 2, 2, 5, 5],
    },
    "SD-XS": {
        **_SD1,
        **_XS,
        "transformer_depth": [0, 1, 1],
        "transformer_depth_output": [0, 0, 1, 1, 1, 1],
    },
    "SD 0.9-XS": {
        **_SD2,
        **_XS,
        "transformer_depth": [1, 1, 1],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1],
        "disable_self_attentions": [True, False, False],
    },
}
"""What core's comfy/model_detection.py calls SD15, SD21, SDXL, SDXL_refiner, SSD_1B, Segmind_Vega, KOALA_1B,
KOALA_700M, SD_XS and SD09_XS, but for the number of heads, which core adds by the family."""

NO_MIDDLE_BLOCK = ("KOALA-700M", "SD-XS", "SD 0.9-XS")

V_PREDICTION = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
"""SD 2 predicts v where the standard deviation of this is over 0.09 (core's supported_models.SD20.model_type)."""

_VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
_UNET_PREFIX, _VAE_PREFIX = "model.diffusion_model.", "first_stage_model."
_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def meta_model(layout: str):
    """ComfyUI's model of a layout, without memory: its family is the one core detects."""
    from comfy.model_detection import model_config_from_unet_config

    config = model_config_from_unet_config(dict(LAYOUTS[layout]), {})
    config.unet_config["dtype"] = torch.float32
    return config.get_model({}, device=torch.device("meta"))


def shapes(layout: str) -> dict[str, tuple[int, ...]]:
    """Of every tensor of a checkpoint, by its name there."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    with torch.device("meta"):
        vae = AutoencoderKL(ddconfig=_VAE, embed_dim=4)
    unet = meta_model(layout).diffusion_model
    return {
        prefix + name: tuple(tensor.shape)
        for prefix, module in ((_UNET_PREFIX, unet), (_VAE_PREFIX, vae))
        for name, tensor in module.state_dict().items()
    }


def unet_parameters(layout: str) -> int:
    return sum(math.prod(shape) for name, shape in shapes(layout).items() if name.startswith(_UNET_PREFIX))


def weight(name: str, shape: tuple[int, ...], layout: str) -> Tensor:
    """Float32, the same every time; so small that activations stay finite through a hundred layers."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(crc32(name.encode())))
    if len(shape) > 1:
        return drawn * (0.7 / math.prod(shape[1:]) ** 0.5)
    if name.endswith(V_PREDICTION):
        return drawn * (0.2 if layout == "SD 2 v-prediction" else 0.05)
    return drawn * 0.1 + float(name.endswith("weight"))


def write_checkpoint(layout: str, dtype: torch.dtype, path: Path) -> None:
    """A safetensors file of a layout's UNet and VAE, all in one dtype."""
    wanted = shapes(layout)
    header, end = {}, 0
    for name, shape in wanted.items():
        first, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [first, end]}
    content = json.dumps(header).encode()
    content += b" " * (-len(content) % 8)
    with path.open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        for values in _bytes(wanted, layout, dtype):
            file.write(values)


def _bytes(wanted: dict[str, tuple[int, ...]], layout: str, dtype: torch.dtype) -> Iterator[memoryview]:
    for name, shape in wanted.items():
        yield weight(name, shape, layout).to(dtype).flatten().view(torch.uint8).numpy().data
