"""Reads h while a model samples."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ...directions import MIDDLE
from .branches import Branch, branches_of, chunk_of_branch
from .patching import patched
from .site_call import SiteCall, is_of_text
from .sites import is_of_unet, require_sites
from .transfers import Readback

GRID = 16
"""Side of the largest map that is kept of a decoder's level: four times the bytes of SD 1.5's bottleneck at 512 pixels,
where the map itself would take 64 times as many. The bottleneck is kept whole."""

Kept = Callable[[SiteCall], Tensor]
"""What is kept of h."""


def whole(call: SiteCall) -> Tensor:
    return call.h


def maps(call: SiteCall) -> Tensor:
    """Maps of a UNet whole, and those of a transformer, which are large at every block, in a grid.

    Of a clip the mean of each frame, of a text the mean of its tokens, whose number is the prompt's.
    """
    if is_of_text(call.site):
        return call.h.mean((2, 3), keepdim=True)
    if call.is_clip:
        return call.h.mean(3, keepdim=True)
    return call.h if is_of_unet(call.site) else pooled(call.h, GRID)


def pooled_to(grid: int) -> Kept:
    """Maps in means over places, but for the bottleneck, which is kept whole."""
    return lambda call: call.h if call.site == MIDDLE else pooled(maps(call), grid)


class Recorder:
    """A patch that reads h at every site it is put at. It lives for one sampling call and is the pack's only mutable
    value.

    Where a sampler evaluates a timestep twice (Heun's corrector), the last evaluation counts. A guidance's own pass is
    not recorded: it is a second one over the same x (PAG, SLG), or has the negative prompt in another place (SAG).
    Which of these an evaluation is, is seen on the CPU, when it has come there: on a card nothing waits for it.
    """

    def __init__(self, branch: Branch, sites: Sequence[str], kept: Kept):
        self.branch, self.kept = branch, kept
        self.places: dict[UUID, int] = {}
        self._coming: deque[tuple[str, Readback]] = deque()
        """Of each evaluation its timestep, x and h."""
        self._x: dict[str, dict[float, Tensor]] = {site: {} for site in sites}
        self._h: dict[str, dict[float, Tensor]] = {site: {} for site in sites}

    def __call__(self, call: SiteCall) -> Tensor:
        options = call.options
        prompts = zip(options["uuids"], options["cond_or_uncond"], branches_of(options), strict=True)
        branches = [branch if self.places.setdefault(uuid, place) == place else None for uuid, place, branch in prompts]
        chunk = chunk_of_branch(branches, self.branch)
        if chunk is not None:
            x, h = (each.chunk(len(branches))[chunk] for each in (call.x, call.h))
            h = self.kept(replace(call, x=x, h=h))
            kept = (call.timesteps[:1], torch.float32), (x, x.dtype), (h, torch.float16)
            self._coming.append((call.site, Readback.of(kept)))
            while self._coming and self._coming[0][1].there:
                self._note(*self._coming.popleft())
        return call.h

    @property
    def h(self) -> Mapping[str, Mapping[float, Tensor]]:
        """`(n, c, h, w)` float16 by site and timestep; waits for what is still coming."""
        while self._coming:
            self._note(*self._coming.popleft())
        return self._h

    def _note(self, site: str, coming: Readback) -> None:
        timestep, x, h = coming.wait()
        seen, at = self._x[site], float(timestep)
        if at not in seen or not torch.equal(seen[at], x):
            seen[at], self._h[site][at] = x, h

    def trajectory(self) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Timesteps `(t,)`, descending, and h `(n, t, c, h, w)` float16 by site. `ValueError` if there is nothing."""
        recorded = self.h
        timesteps = sorted({timestep for each in recorded.values() for timestep in each}, reverse=True)
        if not timesteps:
            raise ValueError(
                f"Nothing was recorded: got no model call for the {self.branch} branch. At cfg 1 ComfyUI skips the "
                "negative branch: raise cfg, or record the positive one; and check that SIGMAS is not empty."
            )
        stacked = {site: torch.stack([each[t] for t in timesteps], dim=1) for site, each in recorded.items()}
        return torch.tensor(timesteps), stacked


def record(model, branch: Branch, sites: Sequence[str] = (MIDDLE,), *, kept: Kept = whole):
    """A clone of `model` whose h is read while it samples, and the recorder that holds what is kept of it."""
    require_sites(model, sites, "Recording")
    recorder = Recorder(branch, sites, kept)
    return patched(model, dict.fromkeys(sites, recorder)), recorder


def pooled(h: Tensor, grid: int) -> Tensor:
    """h `(n, c, height, width)` in means over places, its longer side `grid`; as it is where it is no larger."""
    height, width = h.shape[2:]
    longest = max(height, width)
    if longest <= grid:
        return h
    return adaptive_avg_pool2d(h, (max(1, round(height * grid / longest)), max(1, round(width * grid / longest))))
