"""A transformer cut at a site while it samples: h, and what comes after it, which makes the prediction of it.

What comes before runs once, inside the sampler's own call. What comes after is the network called again with functions
in the slots of its blocks: those before the cut hand on what they are given, at no cost, the one at the cut hands on
what its block has made.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import slot_of, with_blocks_patched
from .derivatives import differentiable_attention, rotated, with_autograd_weights
from .site_call import SiteCall
from .split_unet import Decode, Edits
from .transformers import block_sites

_ROTATING = "attn1_patch"

Streams = dict[str, Tensor]
"""What a block makes: "img" and, where they are apart, "txt"."""


@dataclass(frozen=True, eq=False)
class SplitTransformer:
    """Pictures at one timestep: `decode(h)` is the prediction that the model makes of what it has at `site`."""

    site: str
    h: Tensor
    """`(n, c, h, w)`."""
    decode: Decode
    """With the weights as they are when it is cut."""


def split(executor, *args, site: str, part: tuple[int, int], **kwargs) -> tuple[Tensor, SplitTransformer]:
    """The prediction of a whole call, and the transformer cut at `site` for a `part` (which of how many) of its batch.

    Derivatives may pass what comes after the cut.
    """
    call = inspect.signature(executor.original).bind(*args, **kwargs)
    if call.arguments.get("control") is not None:
        raise ValueError("The model can't be cut under a ControlNet: take it off for this node.")
    options, key = call.arguments["transformer_options"], slot_of(site)
    seen = _Seen(_slots(options).get(key))
    options = _with_slots(options, {key: seen})
    options = with_blocks_patched(options, executor.class_obj, *call.args[:2], [(site, seen.note)])
    watched = _with_options(call, options)
    prediction = executor(*watched.args, **watched.kwargs)
    size = len(prediction) // part[1]
    rows = slice(part[0] * size, (part[0] + 1) * size)
    with torch.inference_mode(False), torch.no_grad():
        streams = {name: each[rows].clone() for name, each in seen.streams.items()}
        rest = _Rest(executor, _of_rows(call, rows, part), site, streams)
        h = seen.h[rows].clone()
        return prediction, SplitTransformer(site, h, with_autograd_weights(rest, h.device))


class _Seen:
    """Stands in the slot of the block at the cut, and keeps what is made there. Lives for one call."""

    def __init__(self, inner: Callable[[dict, dict], dict] | None):
        self.inner = inner
        self.streams: Streams = {}
        self.h = torch.empty(0)

    def __call__(self, args: dict, extra: dict) -> dict:
        out = self.inner(args, extra) if self.inner else extra["original_block"](args)
        self.streams = {name: each.clone() for name, each in _handed_on(out).items()}  # the next block writes into them
        return out

    def note(self, call: SiteCall) -> Tensor:
        self.h = call.h.clone()
        return call.h


class _Rest(torch.nn.Module):
    """What comes after the cut, with whatever else stands in the slots there."""

    def __init__(self, executor, call: inspect.BoundArguments, site: str, streams: Streams):
        super().__init__()
        self.network, self.run = executor.class_obj, executor.original
        self.call, self.site, self.streams = call, site, streams

    def forward(self, h: Tensor, later: Edits | None = None) -> Tensor:
        slots = list(dict.fromkeys(map(slot_of, block_sites(self.network))))
        cut = slot_of(self.site)
        before = dict.fromkeys(slots[: slots.index(cut)], _handed_on)
        options = _with_slots(self.call.arguments["transformer_options"], {**before, cut: self._made})
        edits = {self.site: lambda _: h.clone(), **(later or {})}  # the next block writes into it
        at_blocks = [(site, lambda call, edit=edit: edit(call.h)) for site, edit in edits.items()]
        options = with_blocks_patched(options, self.network, *self.call.args[:2], at_blocks)
        call = _with_options(self.call, options)
        return self.run(*call.args, **call.kwargs)

    def _made(self, args: dict, extra: dict) -> Streams:
        return {name: each.clone() for name, each in self.streams.items()}


def _handed_on(args: dict, extra: dict | None = None) -> Streams:
    return {name: args[name] for name in ("img", "txt") if name in args}


def _slots(options: dict) -> dict:
    return options.get("patches_replace", {}).get("dit", {})


def _with_slots(options: dict, slots: dict) -> dict:
    replaced = {**options.get("patches_replace", {}), "dit": {**_slots(options), **slots}}
    return {**options, "patches_replace": replaced}


def _with_options(call: inspect.BoundArguments, options: dict) -> inspect.BoundArguments:
    return inspect.BoundArguments(call.signature, {**call.arguments, "transformer_options": options})


def _of_rows(call: inspect.BoundArguments, rows: slice, part: tuple[int, int]) -> inspect.BoundArguments:
    """A call for one chunk of its batch, with attention and positions that have derivatives."""
    count = len(call.args[0])

    def of_rows(value):
        if isinstance(value, Tensor):
            return (value[rows] if value.ndim and len(value) == count else value).clone()
        if isinstance(value, dict):
            return {name: of_rows(each) for name, each in value.items()}
        return list(map(of_rows, value)) if isinstance(value, list) else value

    options = call.arguments["transformer_options"]
    patches = options.get("patches", {})
    named = {name: options[name][part[0] : part[0] + 1] for name in ("cond_or_uncond", "uuids")}
    rotating = {**patches, _ROTATING: [*patches.get(_ROTATING, ()), rotated]}
    own = {**options, **named, "patches": rotating, "optimized_attention_override": differentiable_attention}
    arguments = {name: own if name == "transformer_options" else of_rows(each) for name, each in call.arguments.items()}
    return inspect.BoundArguments(call.signature, arguments)
