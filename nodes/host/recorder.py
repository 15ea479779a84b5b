"""Reads h while a model samples."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ...directions import MIDDLE
from .branches import Branch, branches_of, chunk_of_branch
from .sites import SiteCall, patched, require_sites

GRID = 16
"""Side of the largest map that is kept of a decoder's level: four times the bytes of SD 1.5's bottleneck at 512 pixels,
where the map itself would take 64 times as many. The bottleneck is kept whole."""


class Recorder:
    """A patch that reads h at every site it is put at. It lives for one sampling call and is the pack's only mutable
    value.

    Where a sampler evaluates a timestep twice (Heun's corrector), the last evaluation counts. A guidance's own pass is
    not recorded: it is a second one over the same x (PAG, SLG), or has the negative prompt in another place (SAG).
    """

    def __init__(self, branch: Branch, sites: Sequence[str], grid: int | None):
        self.branch, self.grid = branch, grid
        self.places: dict[UUID, int] = {}
        self.h: dict[str, dict[float, Tensor]] = {site: {} for site in sites}
        self.x: dict[str, dict[float, Tensor]] = {site: {} for site in sites}

    def __call__(self, call: SiteCall) -> Tensor:
        options = call.options
        prompts = zip(options["uuids"], options["cond_or_uncond"], branches_of(options), strict=True)
        branches = [branch if self.places.setdefault(uuid, place) == place else None for uuid, place, branch in prompts]
        chunk = chunk_of_branch(branches, self.branch)
        if chunk is not None:
            x, h = (each.chunk(len(branches))[chunk] for each in (call.x, call.h))
            seen = self.x[call.site]
            if call.timestep not in seen or not torch.equal(seen[call.timestep], x):
                seen[call.timestep] = x.clone()
                self.h[call.site][call.timestep] = self._kept(call.site, h).to("cpu", torch.float16, copy=True)
        return call.h

    def _kept(self, site: str, h: Tensor) -> Tensor:
        return h if site == MIDDLE or self.grid is None else pooled(h, self.grid)

    def trajectory(self) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Timesteps `(t,)`, descending, and h `(n, t, c, h, w)` float16 by site. `ValueError` if there is nothing."""
        timesteps = sorted({timestep for each in self.h.values() for timestep in each}, reverse=True)
        if not timesteps:
            raise ValueError(
                f"Nothing was recorded: got no model call for the {self.branch} branch. At cfg 1 ComfyUI skips the "
                "negative branch: raise cfg, or record the positive one; and check that SIGMAS is not empty."
            )
        stacked = {site: torch.stack([each[t] for t in timesteps], dim=1) for site, each in self.h.items()}
        return torch.tensor(timesteps), stacked


def record(model, branch: Branch, sites: Sequence[str] = (MIDDLE,), *, grid: int | None = GRID):
    """A clone of `model` whose h is read while it samples, and the recorder that holds it.

    Maps of the decoder are pooled to `grid`; None keeps them whole.
    """
    require_sites(model, sites, "Recording")
    recorder = Recorder(branch, sites, grid)
    return patched(model, dict.fromkeys(sites, recorder)), recorder


def pooled(h: Tensor, grid: int) -> Tensor:
    """h `(n, c, height, width)` in means over places, its longer side `grid`; as it is where it is no larger."""
    height, width = h.shape[2:]
    longest = max(height, width)
    if longest <= grid:
        return h
    return adaptive_avg_pool2d(h, (max(1, round(height * grid / longest)), max(1, round(width * grid / longest))))
