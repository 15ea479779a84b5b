"""Edits h while a model samples: adds a direction to it, or puts a recorded one in its place."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ...directions import Direction
from .branches import Branch, branches_of
from .clock import clock_of, percent_of
from .edited_sampling import SAMPLING, Sampling, look_ahead, look_ahead_in_blocks
from .edits import ApplyTo, Fit, Injection, Layout, Substitution, Window, replaced
from .moments import Moment
from .patching import patched, patches_of
from .prepared import plus, total
from .site_call import SiteCall, SitePatch, is_of_text
from .sites import is_unet, require_fit


@dataclass(frozen=True, eq=False)
class Addition:
    """The patch that adds to h at a site what one or more injections add, out of place."""

    injections: tuple[Injection, ...]

    def __call__(self, call: SiteCall) -> Tensor:
        if call.is_clip and any(each.mask is not None for each in self.injections):
            raise ValueError("A mask can't act on a clip: got one, wanted none. Take the mask off.")
        at = Layout.of(call.h, branches_of(call.options))
        sigmas, sampling = call.options["sigmas"], SAMPLING.get()
        if sampling is not None:
            return sampling.prepared(self.injections, call.site, at)(call.h, sampling.moment(sigmas, call.timesteps))
        added = total(self.injections, at, call.site, *Moment(sigmas, call.timesteps).numbers)
        return call.h if added is None else plus(call.h, added, at)


@dataclass(frozen=True, eq=False)
class Replacement:
    """The patch that puts recorded h in the place of the model's own."""

    edit: Substitution

    def __call__(self, call: SiteCall) -> Tensor:
        at = Layout.of(call.h, branches_of(call.options))
        sigmas, sampling = call.options["sigmas"], SAMPLING.get()
        if sampling is not None:
            return sampling.substituted(self.edit, call.site, at)(call.h, sampling.moment(sigmas, call.timesteps))
        sigma, timestep = Moment(sigmas, call.timesteps).numbers
        acts = self.edit.window.holds(sigma)
        return replaced(call.h, at.branches, self.edit.recorded_at(timestep)) if acts else call.h


def joined(before: SitePatch, after: SitePatch) -> SitePatch | None:
    """Two injections that follow each other as one patch, which adds once; None for others."""
    if isinstance(before, Addition) and isinstance(after, Addition):
        return Addition(before.injections + after.injections)
    return None


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
    """A clone of `model` that adds `direction` to h while it samples; unpatched where that would change nothing.

    `curve` is what the strengths are multiplied with, by how much of the sampling is done: 0 pure noise, 1 the picture.
    """
    require_fit(model, direction)
    if not any(strengths) or start_percent >= end_percent:
        return model.clone()
    if mask is not None:
        _require_maps(direction)
        mask = mask.reshape(-1, *mask.shape[-2:]).float().cpu()
    window = _window(model, start_percent, end_percent)
    factor = curve and _by_timestep(curve, percent_of(model.get_model_object("model_sampling")))
    edit = Addition((Injection(direction, tuple(strengths), window, apply_to, fit, mask, factor),))
    return _edited(model, dict.fromkeys(direction.sites, edit))


def _by_timestep(curve: Callable[[float], float], percent: Callable[[float], float]) -> Callable[[float], float]:
    return lambda timestep: curve(percent(timestep))


def _require_maps(direction: Direction) -> None:
    """`ValueError` for a direction at the text's tokens, which a mask can't be laid on."""
    texts = [site for site in direction.sites if is_of_text(site)]
    if texts:
        raise ValueError(
            f'A mask can\'t act on a text: got one for "{direction.name}", which is at {", ".join(texts)}. Take the '
            "mask off, or find the direction at sites of the picture alone."
        )


def substitute(
    model, recorded: Mapping[str, Mapping[Branch, Mapping[float, Tensor]]], start_percent: float, end_percent: float
):
    """A clone of `model` whose h at each site of `recorded` is the one that is there, between the percents."""
    window = _window(model, start_percent, end_percent)
    return _edited(model, {site: Replacement(Substitution(each, window)) for site, each in recorded.items()})


def _window(model, start_percent: float, end_percent: float) -> Window:
    return Window(*map(model.get_model_object("model_sampling").percent_to_sigma, (start_percent, end_percent)))


def _edited(model, patches: Mapping[str, SitePatch]):
    edited = patched(model, patches, joined)
    if _note_sampling not in edited.get_wrappers(WrappersMP.OUTER_SAMPLE, "hspace"):
        edited.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "hspace", _note_sampling)
        if is_unet(model):
            edited.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "hspace", look_ahead)
        else:
            edited.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "hspace", look_ahead_in_blocks)
        preparing = WrappersMP.PREPARE_SAMPLING, "hspace", _require_acting
        add_wrapper_with_key(*preparing, edited.model_options, is_model_options=True)  # a second model has no others
    return edited


@contextmanager
def sampling_of(model, sigmas: Tensor, model_options: dict):
    """Within it what injections add is prepared once for the whole of `sigmas`."""
    sampling = Sampling(clock_of(model.get_model_object("model_sampling")), sigmas, _edits_of(model_options))
    token = SAMPLING.set(sampling)
    try:
        yield
        sampling.require_recorded()
    finally:
        SAMPLING.reset(token)


def _note_sampling(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    guider = executor.class_obj
    with sampling_of(guider.model_patcher, sigmas, guider.model_options):
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)


def _require_acting(executor, model, noise_shape, conds, *args, **kwargs):
    """`ValueError` for edits that would be lost: DualModelGuider runs both its models with the patches of the first."""
    acting = sampling.acting if (sampling := SAMPLING.get()) else frozenset()
    if conds.keys() == {"negative"} and not _edits_of(model.model_options) <= acting:
        raise ValueError(
            "An edit of model_negative does nothing: got one there, wanted it on model, whose patches ComfyUI runs on "
            "both. Inject into model, with apply_to negative for the negative prompt alone."
        )
    return executor(model, noise_shape, conds, *args, **kwargs)


def _edits_of(model_options: dict) -> frozenset[Injection | Substitution]:
    patches = list(patches_of(model_options))
    added = {each for patch in patches if isinstance(patch, Addition) for each in patch.injections}
    return frozenset(added | {patch.edit for patch in patches if isinstance(patch, Replacement)})
