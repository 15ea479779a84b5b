"""Edits h while a model samples: adds a direction to it, or puts a recorded one in its place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...directions import Direction
from .edits import ApplyTo, Edit, Fit, Injection, Substitution, UNetCall
from .site import BRANCHES, Branch, patched, require_fit


@dataclass(frozen=True, eq=False)
class Patch:
    """The patch that edits h, out of place, in a window of the sampling.

    It has no `.to`: ComfyUI would call that with the model's dtype, and cast a float32 direction for good.
    """

    edit: Edit
    sigma_start: float
    sigma_end: float
    """Active while sigma_end < sigma <= sigma_start, so that neighbouring windows share no step."""

    def __call__(self, args: dict) -> dict:
        h, options = args["h"], args["transformer_options"]
        if not self.sigma_end < float(options["sigmas"][0]) <= self.sigma_start:
            return {"h": h}
        kinds = options["cond_or_uncond"]
        call = UNetCall(h.chunk(len(kinds)), tuple(map(BRANCHES.get, kinds)), float(args["timesteps"][0]))
        return {"h": torch.cat(self.edit(call))}


def inject(
    model,
    direction: Direction,
    strengths: Sequence[float],
    *,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    apply_to: ApplyTo = "both",
    fit: Fit = "resize",
    mask: Tensor | None = None,
    curve: Callable[[float], float] | None = None,
):
    """A clone of `model` that adds `direction` to h while it samples; unpatched where that would change nothing."""
    require_fit(model, direction)
    if not any(strengths) or start_percent >= end_percent:
        return model.clone()
    mask = None if mask is None else mask.reshape(-1, *mask.shape[-2:]).float().cpu()
    edit = Injection(direction, tuple(strengths), apply_to, fit, mask, curve)
    return _edited(model, edit, start_percent, end_percent)


def substitute(model, recorded: Mapping[Branch, Mapping[float, Tensor]], start_percent: float, end_percent: float):
    """A clone of `model` whose h is the `recorded` one between the percents."""
    return _edited(model, Substitution(recorded), start_percent, end_percent)


def _edited(model, edit: Edit, start_percent: float, end_percent: float):
    sampling = model.get_model_object("model_sampling")
    return patched(model, Patch(edit, *map(sampling.percent_to_sigma, (start_percent, end_percent))))
