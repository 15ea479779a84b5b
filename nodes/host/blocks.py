"""How a patch gets to the blocks of a transformer.

Flux and others have one slot for each block, in which whoever comes last takes the place of who was there. So nothing
is put into it while nodes are wired: at each call of the model all patches of a block are wrapped around whatever
stands there by then, of other packs too.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .site_call import SiteCall, SitePatch, is_of_text
from .transformers import grid_of, transformer_of

SitePatches = Sequence[tuple[str, SitePatch]]


def with_blocks_patched(options: dict, network, x: Tensor, timesteps: Tensor, patches: SitePatches) -> dict:
    """`transformer_options` with which a call of `network` passes these patches, in their order."""
    family = transformer_of(network)
    at_blocks: dict[tuple[str, int], list[tuple[str, SitePatch]]] = defaultdict(list)
    for site, patch in patches:
        at_blocks[slot_of(site)].append((site, patch))
    call = _Call(x, timesteps, grid_of(network, x.shape[2:]))
    if family.appended:
        hooks = options.get("patches", {})
        after = _AfterBlocks(call, {number: each for (_, number), each in at_blocks.items()})
        return {**options, "patches": {**hooks, "double_block": [*hooks.get("double_block", ()), after]}}
    slots = options.get("patches_replace", {})
    there = slots.get("dit", {})
    ours = {key: _InSlot(call, each, there.get(key)) for key, each in at_blocks.items()}
    return {**options, "patches_replace": {**slots, "dit": {**there, **ours}}}


def slot_of(site: str) -> tuple[str, int]:
    """ComfyUI's name of the slot of a site's block."""
    kind, number, *_ = site.split(".")
    return f"{kind}_block", int(number)


@dataclass(frozen=True, eq=False)
class _Call:
    x: Tensor
    timesteps: Tensor
    grid: tuple[int, int]

    def picture(self, tokens: Tensor, start: int, options: dict, site: str, patch: SitePatch) -> Tensor:
        """`tokens (b, n, c)`, of which those of the picture begin at `start`, with `patch` applied to these."""
        end = start + self.grid[0] * self.grid[1]
        h = tokens[:, start:end].transpose(1, 2).unflatten(2, self.grid)
        changed = patch(SiteCall(site, h, self.x, self.timesteps, options))
        if changed is h:
            return tokens
        changed, alone = changed.flatten(2).transpose(1, 2), tokens.shape[1] == end - start
        return changed if alone else torch.cat([tokens[:, :start], changed, tokens[:, end:]], 1)

    def text(self, tokens: Tensor, options: dict, site: str, patch: SitePatch) -> Tensor:
        h = tokens.transpose(1, 2).unsqueeze(2)
        changed = patch(SiteCall(site, h, self.x, self.timesteps, options))
        return tokens if changed is h else changed.squeeze(2).transpose(1, 2)

    def streams(self, out: dict, start: int, options: dict, patches: SitePatches) -> dict:
        """`out` of a block with its "img" and "txt" patched."""
        for site, patch in patches:
            if is_of_text(site):
                out = {**out, "txt": self.text(out["txt"], options, site, patch)}
            else:
                out = {**out, "img": self.picture(out["img"], start, options, site, patch)}
        return out


@dataclass(frozen=True, eq=False)
class _InSlot:
    """Stands in a block's place and calls it, or `inner`, which stood there."""

    call: _Call
    patches: SitePatches
    inner: Callable[[dict, dict], dict] | None

    def __call__(self, args: dict, extra: dict) -> dict:
        options = args["transformer_options"]
        out = self.inner(args, extra) if self.inner else extra["original_block"](args)
        start = 0 if "txt" in args else options["img_slice"][0]
        return self.call.streams(out, start, options, self.patches)


@dataclass(frozen=True, eq=False)
class _AfterBlocks:
    call: _Call
    patches: dict[int, SitePatches]
    """By the number of the block."""

    def __call__(self, args: dict) -> dict:
        patches = self.patches.get(args["block_index"], ())
        return self.call.streams(args, args.get("img_offset", 0), args["transformer_options"], patches)
