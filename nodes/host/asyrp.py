"""Kwon et al.'s asymmetric step as a sampler function."""

from itertools import pairwise

import comfy.patcher_extension
from comfy.k_diffusion.sampling import default_noise_sampler, get_ancestral_step
from comfy.model_patcher import create_model_options_clone
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .branches import prompt_names
from .compilation import compile_blocks
from .edited_sampling import look_ahead
from .edits import Injection, Window
from .injection import Addition, sampling_of
from .patching import WRAPPERS
from .sites import require_bottleneck, require_fit
from .split_passes import EncodeOnce


def sample_asyrp(
    model, x, sigmas, extra_args=None, callback=None, disable=None, noise_sampler=None, *, direction, strength: float,
    edit_until: float, boost_from: float, apply_to: str = "both", fit: str = "resize",
) -> Tensor:  # fmt: skip
    """x of the last sigma by Kwon et al. (ICLR 2023, arXiv 2210.10960), Eq. 3: the edited eps in P_t, the plain in D_t.

    In sigmas that is Euler's step plus the change that the edit makes to the predicted picture.
    """
    patcher = model.inner_model.model_patcher
    require_bottleneck(patcher, "Asyrp Sampler")
    require_fit(patcher, direction)
    until, boost = (patcher.get_model_object("model_sampling").percent_to_sigma(p) for p in (edit_until, boost_from))
    edit = Addition((Injection(direction, (strength,), Window(float("inf"), until), apply_to, fit),))
    once, extra_args = EncodeOnce(direction.sites), dict(extra_args or {})
    noise_sampler = noise_sampler or default_noise_sampler(x, seed=extra_args.get("seed"))
    options = {**create_model_options_clone(extra_args["model_options"]), **prompt_names(model.inner_model)}
    for kind, wrapper in ((WrappersMP.DIFFUSION_MODEL, look_ahead), (WrappersMP.DIFFUSION_MODEL, once), *WRAPPERS):
        comfy.patcher_extension.add_wrapper_with_key(kind, "hspace_asyrp", wrapper, options, is_model_options=True)
    compile_blocks(options)
    editing = {**extra_args, "model_options": options}
    schedule = sigmas.cpu()  # whatever is asked of it there is known without waiting
    with sampling_of(patcher, schedule, options):
        for i, (now, following) in enumerate(pairwise(schedule)):
            sigma = now * x.new_ones(len(x))
            edited = strength != 0 and float(now) > until
            denoised = model(x, sigma, **(editing if edited else extra_args))
            if callback is not None:
                callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
            boosted = float(now) <= boost
            down, up = get_ancestral_step(now, following, eta=float(boosted))
            exact = boosted and down == 0  # as core's euler_ancestral ends, and its euler doesn't
            moved = denoised if exact else x + (x - denoised) / now * (down - now)
            if edited:
                once.edit = edit
                moved = moved + (model(x, sigma, **editing) - denoised)
                once.edit = None
                once.whole.clear()
            x = moved + noise_sampler(sigmas[i], sigmas[i + 1]) * up if up > 0 else moved
    return x
