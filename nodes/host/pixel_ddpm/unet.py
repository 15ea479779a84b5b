"""The papers' pixel UNet, diffusers' `UNet2DModel`, with the patch point at its bottleneck that ComfyUI's UNet has.

Importing this module imports diffusers, which takes seconds: do it only where a model is loaded.
"""

from itertools import accumulate
from typing import Any

import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from diffusers import UNet2DModel
from torch import Tensor

from ....directions import brief

PATCH_POINT, OUTPUTS = "middle_block_after_patch", "output_block_patch"

_WANTED: dict[str, tuple[object, str]] = {
    "_class_name": ("UNet2DModel", "Choose the folder of an unconditional pixel DDPM"),
    "mid_block_type": ("UNetMidBlock2D", "A UNet without a middle block has no h-space"),
    "time_embedding_type": ("positional", "Score-SDE models aren't DDPMs"),
    "class_embed_type": (None, "Choose an unconditional model"),
    "num_class_embeds": (None, "Choose an unconditional model"),
    "center_input_sample": (False, "Its images aren't in -1..1"),
    "in_channels": (3, "Choose a model of RGB images"),
    "out_channels": (3, "Choose a model of RGB images that doesn't predict its variance"),
}
"""What config.json must say (an absent entry means that, except for the class), and what to do where it doesn't."""

_BLOCKS = {
    "down_block_types": {"DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"},
    "up_block_types": {"UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"},
}

_DEEPEST, _WIDEST = 16, 1 << 14
"""Levels or layers of a level, and channels or pixels: the papers' models have 6, 2, 512 and 256."""

_RENAMED = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""Attention in files written before diffusers 0.15, such as Google's."""


class PixelUNet(UNet2DModel):
    """`UNet2DModel` in two halves, called as ComfyUI calls a UNet. Unpatched, it equals diffusers' bit for bit."""

    def encode(self, x: Tensor, timesteps: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """h `(n, c, h, w)` after the middle block, the skips, and the time embedding `(n, e)`.

        `x (n, 3, height, width)` is the model's input, `timesteps (n,)` are in 0..999.
        `ValueError` for an image that the levels of the UNet can't halve.
        """
        multiple = 2 ** (len(self.down_blocks) - 1)
        if x.shape[1] != self.config.in_channels or x.shape[2] % multiple or x.shape[3] % multiple:
            raise ValueError(
                f"got a latent of {x.shape[1]} channels, {x.shape[3]}x{x.shape[2]}, wanted "
                f"{self.config.in_channels} channels with sides that are multiples of {multiple}: use Load DDPM's "
                "own latent, or encode a picture with its VAE."
            )
        emb = self.time_embedding(self.time_proj(timesteps).to(self.dtype))
        h = self.conv_in(x)
        skips = (h,)
        for block in self.down_blocks:
            h, outputs = block(hidden_states=h, temb=emb)
            skips += outputs
        return self.mid_block(h, emb), skips, emb

    @property
    def outputs(self) -> tuple[int, ...]:
        """Numbers of the decoder's residual blocks that are the first of their level, but for that after the middle."""
        sizes = [len(block.resnets) for block in self.up_blocks]
        return tuple(accumulate(sizes[:-1]))

    def decode(
        self, h: Tensor, skips: tuple[Tensor, ...], emb: Tensor, options: dict | None = None, *, start: int = 0
    ) -> Tensor:
        """The prediction `(n, 3, height, width)` made from h, the skips and the time embedding of `encode`.

        Patches of the decoder act before the first residual block of each level, as before a block of ComfyUI's UNet.
        `start` is the number of the block that h enters, and `skips` are those from there on: one of `outputs`, or 0.
        """
        options = {} if options is None else options
        patches = options.get("patches", {})
        for number, block in zip((0, *self.outputs), self.up_blocks, strict=True):
            if number < start:
                continue
            taken = len(block.resnets)
            for patch in patches.get(OUTPUTS, ()):
                options["block"] = ("output", number)
                h, last = patch(h, skips[-1], options)
                skips = (*skips[:-1], last)
            h = block(h, skips[-taken:], emb)
            skips = skips[:-taken]
        return self.conv_out(self.conv_act(self.conv_norm_out(h)))

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        control: dict | None = None,
        transformer_options: dict | None = None,
        **kwargs,
    ) -> Tensor:
        """The prediction `(n, 3, height, width)`, as `UNetModel.forward` makes it; `context` has no effect."""
        options = {} if transformer_options is None else transformer_options
        run = WrapperExecutor.new_class_executor(
            self._forward, self, get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        )
        return run.execute(x, timesteps, context, y, control, options, **kwargs)

    def _forward(self, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        _require_served(control, options)
        h, skips, emb = self.encode(x, timesteps)
        options["block"] = ("middle", 0)
        for patch in options.get("patches", {}).get(PATCH_POINT, ()):
            args = {"h": h, "x": x, "emb": emb, "context": context, "y": y, "timesteps": timesteps, "skips": skips}
            h = patch({**args, "transformer_options": options})["h"]
        return self.decode(h, skips, emb, options)


def build_pixel_unet(config: dict[str, Any], weights: dict[str, Tensor]) -> PixelUNet:
    """The UNet that `config` (config.json) describes, in float32, frozen, with a copy of `weights` of any precision.

    `ValueError` for a config with a feature that isn't covered, or weights that don't belong to it.
    """
    _require_covered(config)
    _require_usual(config)
    try:
        with torch.device("meta"):  # no memory, and no random numbers, for values that are replaced at once
            unet = PixelUNet(**{key: value for key, value in config.items() if not key.startswith("_")})
    except Exception as error:  # diffusers lets through whatever a setting of the wrong kind leads to
        raise ValueError(
            f"config.json doesn't describe a UNet2DModel of this diffusers ({brief(error)}): update it."
        ) from error
    weights = {_current_name(name): weight.to(torch.float32, copy=True) for name, weight in weights.items()}
    _require_same(unet.state_dict(), weights)
    unet.load_state_dict(weights, assign=True)
    return unet.requires_grad_(False).eval()


def _require_covered(config: dict[str, Any]) -> None:
    for key, (wanted, advice) in _WANTED.items():
        got = config.get(key, None if key == "_class_name" else wanted)
        if got != wanted:
            raise ValueError(f"config.json: got {key} {brief(repr(got))}, wanted {wanted!r}. {advice}.")
    for key, wanted in _BLOCKS.items():
        got = config.get(key)
        if not isinstance(got, list | tuple) or not got or any(block not in list(wanted) for block in got):
            raise ValueError(f"config.json: got {key} {brief(got)}, wanted only {sorted(wanted)}. Choose a plain DDPM.")
    if config.get("sample_size") is None:
        raise ValueError("config.json: got no sample_size, wanted the model's image size in pixels. Write it there.")


def _require_usual(config: dict[str, Any]) -> None:
    """`ValueError` for a network so deep or so wide that building it would never end."""
    for key, value in config.items():
        entries = value if isinstance(value, list | tuple) else [value]
        largest = _DEEPEST if key == "layers_per_block" else _WIDEST
        numbers = [entry for entry in entries if isinstance(entry, int | float)]
        if not key.startswith("_") and (len(entries) > _DEEPEST or not all(abs(n) <= largest for n in numbers)):
            raise ValueError(
                f"config.json: got {key} {brief(repr(value))}, wanted at most {_DEEPEST} numbers up to {largest}. Copy "
                "the model's own file."
            )


def _require_same(wanted: dict[str, Tensor], got: dict[str, Tensor]) -> None:
    problems = {
        "missing": sorted(wanted.keys() - got.keys()),
        "unexpected": sorted(got.keys() - wanted.keys()),
        "of another shape": [k for k in wanted if k in got and got[k].shape != wanted[k].shape],
    }
    found = [f'{len(names)} tensors {kind} (such as "{names[0]}")' for kind, names in problems.items() if names]
    if found:
        raise ValueError(
            f"The weights aren't this model's: got {' and '.join(found)}, wanted the {len(wanted)} that config.json "
            "describes. Copy config.json and the safetensors from the same place."
        )


def _require_served(control: dict | None, options: dict) -> None:
    """`ValueError` for a ControlNet or a patch (FreeU, PAG, ...) that this UNet would silently skip."""
    asked = {**options.get("patches", {}), **options.get("patches_replace", {}), "control": control}
    at_levels = all(hasattr(patch, "numbers") for patch in options.get("patches", {}).get(OUTPUTS, ()))
    served = {PATCH_POINT, OUTPUTS} if at_levels else {PATCH_POINT}
    unserved = sorted(name for name, patches in asked.items() if patches and name not in served)
    if unserved:
        raise ValueError(
            f"A pixel DDPM can be patched at its bottleneck only: got {', '.join(unserved)}, wanted "
            f"{PATCH_POINT}. Remove the ControlNet or the model patch before the sampler."
        )


def _current_name(name: str) -> str:
    if ".attentions." in name:
        for old, new in _RENAMED.items():
            name = name.replace(old, new)
    return name
