"""Edits h while a model samples: adds a direction to it, or puts a recorded one in its place."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ...directions import Direction
from .branches import Branch, branches_of
from .edits import ApplyTo, Edit, Fit, Injection, Substitution, UNetCall
from .sites import SiteCall, patched, patches_of, require_fit


@dataclass(frozen=True, eq=False)
class Patch:
    """The patch that edits h at a site, out of place, in a window of the sampling."""

    edit: Edit
    sigma_start: float
    sigma_end: float
    """Active while sigma_end < sigma <= sigma_start, so that neighbouring windows share no step."""

    def __call__(self, call: SiteCall) -> Tensor:
        if not self.sigma_end < float(call.options["sigmas"][0]) <= self.sigma_start:
            return call.h
        branches = branches_of(call.options)
        return torch.cat(self.edit(UNetCall(call.site, call.h.chunk(len(branches)), branches, call.timestep)))


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
    return _edited(model, dict.fromkeys(direction.sites, edit), start_percent, end_percent)


def substitute(
    model, recorded: Mapping[str, Mapping[Branch, Mapping[float, Tensor]]], start_percent: float, end_percent: float
):
    """A clone of `model` whose h at each site of `recorded` is the one that is there, between the percents."""
    edits = {site: Substitution(each) for site, each in recorded.items()}
    return _edited(model, edits, start_percent, end_percent)


def _edited(model, edits: Mapping[str, Edit], start_percent: float, end_percent: float):
    sampling = model.get_model_object("model_sampling")
    window = tuple(map(sampling.percent_to_sigma, (start_percent, end_percent)))
    edited = patched(model, {site: Patch(edit, *window) for site, edit in edits.items()})
    edited.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "hspace", _note_acting)
    preparing = WrappersMP.PREPARE_SAMPLING, "hspace", _require_acting
    add_wrapper_with_key(*preparing, edited.model_options, is_model_options=True)  # a second model has no others
    return edited


_acting: ContextVar[frozenset[Patch]] = ContextVar("acting", default=frozenset())
"""The edits of the model that a sampling call patches the UNet with."""


def _note_acting(executor, *args, **kwargs):
    token = _acting.set(_edits_of(executor.class_obj.model_options))
    try:
        return executor(*args, **kwargs)
    finally:
        _acting.reset(token)


def _require_acting(executor, model, noise_shape, conds, *args, **kwargs):
    """`ValueError` for edits that would be lost: DualModelGuider runs both its models with the patches of the first."""
    if conds.keys() == {"negative"} and not _edits_of(model.model_options) <= _acting.get():
        raise ValueError(
            "An edit of model_negative does nothing: got one there, wanted it on model, whose patches ComfyUI runs on "
            "both. Inject into model, with apply_to negative for the negative prompt alone."
        )
    return executor(model, noise_shape, conds, *args, **kwargs)


def _edits_of(model_options: dict) -> frozenset[Patch]:
    return frozenset(patch for patch in patches_of(model_options) if isinstance(patch, Patch))
