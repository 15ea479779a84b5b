"""Reads h while a model samples."""

from uuid import UUID

import torch
from torch import Tensor

from .branches import Branch, branches_of, chunk_of_branch
from .site import patched, require_bottleneck


class Recorder:
    """A patch that reads h. It lives for one sampling call and is the pack's only mutable value.

    Where a sampler evaluates a timestep twice (Heun's corrector), the last evaluation counts. A guidance's own pass is
    not recorded: it is a second one over the same x (PAG, SLG), or has the negative prompt in another place (SAG).
    """

    def __init__(self, branch: Branch):
        self.branch = branch
        self.places: dict[UUID, int] = {}
        self.h: dict[float, Tensor] = {}
        self.x: dict[float, Tensor] = {}

    def __call__(self, args: dict) -> dict:
        options = args["transformer_options"]
        prompts = zip(options["uuids"], options["cond_or_uncond"], branches_of(options), strict=True)
        branches = [branch if self.places.setdefault(uuid, place) == place else None for uuid, place, branch in prompts]
        chunk = chunk_of_branch(branches, self.branch)
        if chunk is not None:
            x, h = args["x"].chunk(len(branches))[chunk], args["h"].chunk(len(branches))[chunk]
            timestep = float(args["timesteps"][0])
            if timestep not in self.x or not torch.equal(self.x[timestep], x):
                self.x[timestep] = x.clone()
                self.h[timestep] = h.to("cpu", torch.float16, copy=True)
        return {"h": args["h"]}

    def trajectory(self) -> tuple[Tensor, Tensor]:
        """Timesteps `(t,)`, descending, and h `(n, t, c, h, w)` float16. `ValueError` if nothing was recorded."""
        if not self.h:
            raise ValueError(
                f"Nothing was recorded: got no model call for the {self.branch} branch. At cfg 1 ComfyUI skips the "
                "negative branch: raise cfg, or record the positive one; and check that SIGMAS is not empty."
            )
        timesteps = sorted(self.h, reverse=True)
        return torch.tensor(timesteps), torch.stack([self.h[timestep] for timestep in timesteps], dim=1)


def record(model, branch: Branch) -> tuple[object, Recorder]:
    """A clone of `model` whose h is read while it samples, and the recorder that holds it."""
    require_bottleneck(model)
    recorder = Recorder(branch)
    return patched(model, recorder), recorder
