"""A UNet cut at its bottleneck while it samples: h, and the decoder half that makes the prediction of it.

The encoder runs once, inside the sampler's own call, so that LoRA, conditioning, dtype and offloading are whatever they
are there. The decoder half is then a function of h alone, with derivatives.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.autograd.forward_ad as forward_ad
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel, forward_timestep_embed
from torch import Tensor

from ...directions import Jacobian
from .derivatives import GraphBudget, derivatives, differentiable_attention, math_attention, with_autograd_weights

_SKIPS, _BOTTLENECK = "input_block_patch", "middle_block_after_patch"


@dataclass(frozen=True, eq=False)
class SplitUNet:
    """One picture at one timestep: `decode(h)` is the prediction the model makes there."""

    h: Tensor
    """`(1, c, h, w)`."""
    decode: Callable[[Tensor], Tensor]
    """From `(n, c, h, w)` to `(n, channels, height, width)`, in the model's own kind of prediction."""
    prediction: Tensor
    """`(1, channels, height, width)`: what the whole model predicted."""
    timestep: float

    def jacobian(self) -> Jacobian:
        """Of the prediction by h. It holds the decoder's graph: `ValueError` where memory can't.

        J^T u is a backward pass. It is linear in u, so J v is the backward pass of that one (measured: a fourth of the
        time of forward mode). Where its graph does not fit, forward mode takes its place.
        """
        h = self.h.clone().requires_grad_()
        graph = self._graph_of_both(h)
        if graph is None:
            budget = GraphBudget(h.device)
            with derivatives(), budget.measured():
                out = self.decode(h)
            budget.require()
        else:
            out, u, pulled = graph

        def forward(v: Tensor) -> Tensor:
            v = v.to(h)[None]
            product = self._pushed(v) if graph is None else torch.autograd.grad(pulled, u, v, retain_graph=True)[0]
            return product[0].float().cpu()

        def transposed(w: Tensor) -> Tensor:
            return torch.autograd.grad(out, h, w.to(out)[None], retain_graph=True)[0][0].float().cpu()

        return Jacobian(forward, transposed, tuple(h.shape[1:]), tuple(out.shape[1:]))

    def _graph_of_both(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """The output, a cotangent u, and J^T u; None where its graph does not fit, of which nothing is left then."""
        budget = GraphBudget(h.device)
        with derivatives(), budget.measured(), math_attention():
            out = self.decode(h)
            u = torch.zeros_like(out).requires_grad_()
            pulled = torch.autograd.grad(out, h, u, create_graph=True)[0] if budget.fits else None
        return (out, u, pulled) if pulled is not None and budget.fits else None

    def _pushed(self, v: Tensor) -> Tensor:
        """J v by forward mode, which keeps no graph."""
        with derivatives(), torch.no_grad(), math_attention(), forward_ad.dual_level():
            return forward_ad.unpack_dual(self.decode(forward_ad.make_dual(self.h, v))).tangent


def split(
    executor, x, timesteps, context, y, control, options, *, part=(0, 1), differentiable=True, **kwargs
) -> tuple[Tensor, SplitUNet]:
    """The prediction of a whole UNet call, and the split_unet of one `part` (which of how many) of its batch."""
    if control is not None:
        raise ValueError("The model can't be cut at its bottleneck under a ControlNet: take it off for this node.")
    seen = _Activations()
    patches = options.get("patches", {})
    extra = {_BOTTLENECK: seen.bottleneck}
    if isinstance(executor.class_obj, UNetModel):
        extra[_SKIPS] = seen.skip
    watched = {**options, "patches": {**patches, **{key: [*patches.get(key, ()), at] for key, at in extra.items()}}}
    prediction = executor(x, timesteps, context, y, control, watched, **kwargs)
    index, count = part
    with torch.inference_mode(False if differentiable else torch.is_inference_mode_enabled()), torch.no_grad():
        of_part = lambda value: value.chunk(count)[index].clone() if torch.is_tensor(value) else value  # noqa: E731
        decode = _decoder(executor.class_obj, of_part, seen, x.dtype, differentiable)
        return prediction, SplitUNet(of_part(seen.args["h"]), decode, of_part(prediction), float(timesteps[0]))


class _Activations:
    """What a whole call shows of itself at ComfyUI's patch points."""

    def __init__(self):
        self.skips: list[Tensor] = []
        self.args: dict = {}

    def skip(self, h: Tensor, options: dict) -> Tensor:
        self.skips.append(h.clone())  # patches such as FreeU's write into what follows
        return h

    def bottleneck(self, args: dict) -> dict:
        self.args = {**args, "h": args["h"].clone(), "transformer_options": dict(args["transformer_options"])}
        return {"h": args["h"]}


def _decoder(unet, of_part, seen: _Activations, dtype: torch.dtype, differentiable: bool) -> Callable[[Tensor], Tensor]:
    """The decoder half of `unet` for a part of the batch, a function of h alone."""
    emb, context = of_part(seen.args["emb"]), of_part(seen.args["context"])
    skips = tuple(of_part(skip) for skip in seen.args.get("skips", seen.skips))
    half: torch.nn.Module = _PixelDecoder(unet, skips, emb)
    if isinstance(unet, UNetModel):
        options = seen.args["transformer_options"]
        if differentiable:
            options = {**options, "optimized_attention_override": differentiable_attention}
        half = _UNetDecoder(unet, skips, emb, context, options, dtype)
    return with_autograd_weights(half) if differentiable else half


class _UNetDecoder(torch.nn.Module):
    """The second half of `UNetModel._forward`, block by block, with the patches that act there."""

    def __init__(self, unet: UNetModel, skips, emb, context, options, dtype):
        super().__init__()
        self.blocks, self.out, self.dtype = unet.output_blocks, unet.out, dtype
        self.skips, self.emb, self.context, self.options = skips, emb, context, options

    def forward(self, h: Tensor) -> Tensor:
        options, skips = dict(self.options), list(self.skips)
        h = h.clone()
        for number, block in enumerate(self.blocks):
            options["block"] = ("output", number)
            skip = skips.pop()
            for patch in options.get("patches", {}).get("output_block_patch", ()):
                h, skip = patch(h, skip, options)
            h = torch.cat([h, skip], dim=1)
            shape = skips[-1].shape if skips else None
            h = forward_timestep_embed(block, h, self.emb, self.context, options, shape)
        return self.out(h.type(self.dtype))


class _PixelDecoder(torch.nn.Module):
    def __init__(self, unet, skips, emb):
        super().__init__()
        self.unet, self.skips, self.emb = unet, skips, emb

    def forward(self, h: Tensor) -> Tensor:
        return self.unet.decode(h, self.skips, self.emb)
