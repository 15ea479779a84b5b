"""A UNet cut at a site while it samples: h, and what comes after it, which makes the prediction of it.

What comes before runs once, inside the sampler's own call, so that LoRA, conditioning, dtype and offloading are
whatever they are there. What comes after is then a function of h alone, with derivatives.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel, forward_timestep_embed
from torch import Tensor

from ...directions import MIDDLE, Jacobian
from .derivatives import differentiable_attention, with_autograd_weights
from .products import jacobian_of
from .sites import decoder_block

_SKIPS, _BOTTLENECK, _DECODER = "input_block_patch", "middle_block_after_patch", "output_block_patch"


Edits = Mapping[str, Callable[[Tensor], Tensor]]
"""What is made of h, by site."""


class Decode(Protocol):
    def __call__(self, h: Tensor, later: Edits | None = None) -> Tensor:
        """The prediction `(n, channels, height, width)` of `h (n, c, h, w)`, in the model's own kind of prediction.

        `later` are edits of what is at sites that come after.
        """


@dataclass(frozen=True, eq=False)
class SplitUNet:
    """Pictures at one timestep: `decode(h)` is the prediction that the model makes of what it has at a site."""

    h: Tensor
    """`(n, c, h, w)`."""
    decode: Decode
    """With the weights as they are when it is cut."""
    prediction: Tensor
    """`(n, channels, height, width)`: what the whole model predicted."""
    timesteps: Tensor
    """`(n,)`, all the same."""
    rest: "_Rest"

    @classmethod
    def cut(cls, rest: "_Rest", h: Tensor, prediction: Tensor, timesteps: Tensor) -> "SplitUNet":
        decode = with_autograd_weights(rest, h.device) if rest.differentiable else rest
        return cls(h, decode, prediction, timesteps, rest)

    @property
    def site(self) -> str:
        """Where it is cut."""
        return f"output.{self.rest.block}" if self.rest.block else MIDDLE

    @property
    def timestep(self) -> float:
        """Read from the device, which waits for it."""
        return float(self.timesteps[0])

    def of(self, rows: slice) -> "SplitUNet":
        """The same for some of its pictures, of one chunk of the batch or of whole ones."""
        return SplitUNet.cut(self.rest.of(rows), self.h[rows], self.prediction[rows], self.timesteps[rows])

    def jacobian(self) -> Jacobian:
        """Of the prediction of one picture by its h: see `jacobian_of`."""
        return jacobian_of(lambda h: self.decode(h[None])[0], self.h[0])[1]


def split(
    executor, x, timesteps, context, y, control, options, *, site=MIDDLE, part=(0, 1), differentiable=True, **kwargs
) -> tuple[Tensor, SplitUNet]:
    """The prediction of a whole UNet call, and the UNet cut at `site` for a `part` (which of how many) of its batch."""
    if control is not None:
        raise ValueError("The model can't be cut under a ControlNet: take it off for this node.")
    seen = _Activations(decoder_block(site))
    patches = options.get("patches", {})
    extra = {_BOTTLENECK: seen.bottleneck}
    if isinstance(executor.class_obj, UNetModel):
        extra[_SKIPS] = seen.skip
    if seen.block:
        extra[_DECODER] = seen
    watched = {**options, "patches": {**patches, **{key: [*patches.get(key, ()), at] for key, at in extra.items()}}}
    prediction = executor(x, timesteps, context, y, control, watched, **kwargs)
    size = len(seen.h) // part[1]
    rows = slice(part[0] * size, (part[0] + 1) * size)
    with torch.inference_mode(False if differentiable else torch.is_inference_mode_enabled()), torch.no_grad():
        rest = seen.rest(executor.class_obj, x.dtype, differentiable).of(rows)
        cut = SplitUNet.cut(rest, seen.h[rows].clone(), prediction[rows].clone(), timesteps[rows].clone())
        return prediction, cut


class _Activations:
    """What a whole call shows of itself at ComfyUI's patch points, up to where it is cut."""

    def __init__(self, block: int):
        self.block = block
        """Of the decoder; 0 is the bottleneck."""
        self.skips: list[Tensor] = []
        self.args: dict = {}
        self.h = torch.empty(0)

    def skip(self, h: Tensor, options: dict) -> Tensor:
        self.skips.append(h.clone())  # patches such as FreeU's write into what follows
        return h

    def bottleneck(self, args: dict) -> dict:
        self.h = args["h"].clone()
        self.skips = list(args.get("skips", self.skips))
        self.args = {**args, "transformer_options": dict(args["transformer_options"])}
        return {"h": args["h"]}

    @property
    def numbers(self) -> frozenset[int]:
        """As a patch of the decoder, see `sites`."""
        return frozenset([self.block])

    def __call__(self, h: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        if options["block"] == ("output", self.block):
            self.h, self.skips = h.clone(), [*self.skips[: -1 - self.block], skip.clone()]
        return h, skip

    def rest(self, unet, dtype: torch.dtype, differentiable: bool) -> "_Rest":
        options = self.args["transformer_options"]
        if differentiable:
            options = {**options, "optimized_attention_override": differentiable_attention}
        emb, context = self.args["emb"], self.args["context"]
        return _Rest(unet, self.block, self.skips, emb, context, options, dtype, differentiable)


class _Rest(torch.nn.Module):
    """What comes after the cut, with the patches that act there."""

    def __init__(self, unet, block: int, skips: Sequence[Tensor], emb, context, options, dtype, differentiable: bool):
        super().__init__()
        self.unet, self.block, self.skips, self.emb, self.context = unet, block, skips, emb, context
        self.options, self.dtype, self.differentiable = options, dtype, differentiable

    def of(self, rows: slice) -> "_Rest":
        """The same for some rows of the batch, which is in chunks."""
        size = len(self.emb) // len(self.options["cond_or_uncond"])
        chunks = slice(rows.start // size, (rows.stop - 1) // size + 1)
        named = {name: self.options[name][chunks] for name in ("cond_or_uncond", "uuids")}
        some = lambda value: value[rows].clone() if torch.is_tensor(value) else value  # noqa: E731
        skips, emb, context = [some(skip) for skip in self.skips], some(self.emb), some(self.context)
        options = {**self.options, **named}
        return _Rest(self.unet, self.block, skips, emb, context, options, self.dtype, self.differentiable)

    def forward(self, h: Tensor, later: Edits | None = None) -> Tensor:
        patches = self.options.get("patches", {})
        editing = _Editing({decoder_block(site): edit for site, edit in (later or {}).items()})
        after = [*map(self._after, patches.get(_DECODER, ())), editing]
        options = {**self.options, "patches": {**patches, _DECODER: after}}
        if isinstance(self.unet, UNetModel):
            return self._decoded(h.clone(), options)
        return self.unet.decode(h, self.skips, self.emb, options, start=self.block)

    def _decoded(self, h: Tensor, options: dict) -> Tensor:
        """The second half of `UNetModel._forward`, from a block on."""
        skips = list(self.skips)
        for number in range(self.block, len(self.unet.output_blocks)):
            options["block"] = ("output", number)
            skip = skips.pop()
            for patch in options["patches"][_DECODER]:
                h, skip = patch(h, skip, options)
            h = torch.cat([h, skip], dim=1)
            shape = skips[-1].shape if skips else None
            h = forward_timestep_embed(self.unet.output_blocks[number], h, self.emb, self.context, options, shape)
        return self.unet.out(h.type(self.dtype))

    def _after(self, patch: Callable) -> Callable:
        """`patch`, but where the cut is: there it has acted."""
        cut = ("output", self.block) if self.block else None
        return lambda h, skip, options: (h, skip) if options["block"] == cut else patch(h, skip, options)


@dataclass(frozen=True, eq=False)
class _Editing:
    edits: Mapping[int, Callable[[Tensor], Tensor]]
    """By the number of the block that h enters."""

    def __call__(self, h: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        number = options["block"][1]
        return (self.edits[number](h) if number in self.edits else h), skip
