"""What each family of transformers offers to be read and edited: a table.

A family stands in it when its blocks call what ComfyUI lets be put there, and tests hold its sites to a model of that
class. The tokens of a picture are the map that they are; those of a text a map one place high.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from comfy.ldm.chroma.model import Chroma
from comfy.ldm.flux.model import Flux
from comfy.ldm.hunyuan_video.model import HunyuanVideo
from comfy.ldm.lumina.model import NextDiT
from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper as MMDiT
from comfy.ldm.qwen_image.model import QwenImageTransformer2DModel
from comfy.ldm.wan.model import WanModel


@dataclass(frozen=True)
class Transformer:
    """Where a family has its blocks, and how a patch gets to them."""

    double: str
    """The attribute that is the list of blocks in which picture and text are apart, or all there are."""
    single: str | None = None
    """That of blocks in which both are one row of tokens, the text first."""
    text: bool = True
    """Its blocks change the tokens of the text as well."""
    last_text: bool = True
    """So does the last of them."""
    appended: bool = False
    """ComfyUI calls patches after its blocks; else a function may stand in a block's place and call it."""
    differentiable: bool = False
    """Its blocks are Flux's own: what has no derivative in them can be done by a patch instead."""


FAMILIES: Mapping[type, Transformer] = {
    Flux: Transformer("double_blocks", "single_blocks", differentiable=True),
    Chroma: Transformer("double_blocks", "single_blocks", differentiable=True),
    HunyuanVideo: Transformer("double_blocks", "single_blocks", differentiable=True),
    MMDiT: Transformer("joint_blocks", last_text=False),
    QwenImageTransformer2DModel: Transformer("transformer_blocks", appended=True),
    NextDiT: Transformer("layers", appended=True),
    WanModel: Transformer("blocks", text=False, appended=True),
}
"""By ComfyUI's class of the model itself; classes derived from these are other families, with blocks of their own."""


def transformer_of(network) -> Transformer | None:
    return FAMILIES.get(type(network))


def block_sites(network) -> tuple[str, ...]:
    """The sites of a transformer's blocks, in the order in which it gets there."""
    family = FAMILIES[type(network)]
    blocks = len(getattr(network, family.double))
    sites = []
    for number in range(blocks):
        sites.append(f"double.{number}")
        if family.text and (family.last_text or number < blocks - 1):
            sites.append(f"double.{number}.text")
    singles = len(getattr(network, family.single)) if family.single else 0
    return (*sites, *(f"single.{number}" for number in range(singles)))


def grid_of(network, size: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the map that the tokens of a picture are; of a clip: its frames, and the places of one."""
    patch = network.patch_size if isinstance(network.patch_size, tuple | list) else [network.patch_size] * 2
    *frames, height, width = size
    height, width = math.ceil(height / patch[-2]), math.ceil(width / patch[-1])
    count = math.ceil(frames[0] / (patch[0] if len(patch) == 3 else 1)) if frames else 1
    return (height, width) if count == 1 else (count, height * width)
