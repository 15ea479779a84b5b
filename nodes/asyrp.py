"""Kwon et al.'s asymmetric step as a SAMPLER."""

import comfy.patcher_extension
from comfy.k_diffusion.sampling import default_noise_sampler, get_ancestral_step
from comfy.model_patcher import create_model_options_clone
from comfy.patcher_extension import WrappersMP
from comfy.samplers import KSAMPLER
from comfy_api.latest import io
from torch import Tensor

from . import unet
from .edits import Injection
from .halves import EncodeOnce
from .inputs import APPLY_TO, FIT
from .types import CATEGORY, HSpaceDirection


class HSpaceAsyrpSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceAsyrpSampler",
            display_name="Asyrp Sampler",
            category=CATEGORY,
            description="Edits in Kwon et al.'s way: the edited prediction moves the picture, the unedited one the "
            "noise, so the edit is stronger and is not undone by later steps. A sampler of its own; the model stays "
            "without Inject Direction.",
            search_aliases=["asymmetric reverse process", "kwon", "edit", "sampler", "semantic"],
            inputs=[
                HSpaceDirection.Input("direction", tooltip="One direction; for several, Combine Directions."),
                io.Float.Input(
                    "strength",
                    default=0.3,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    round=0.001,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="0 is off. Grows with the number of steps: unlike Inject Direction's. Kwon et al. multiply "
                    "a strength found at n steps by n / steps, and N attributes by 1 / sqrt(N). 0.1 to 1.",
                ),
                io.Float.Input(
                    "edit_until",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Where in the sampling the edit ends: 0 is pure noise, 1 the finished picture. Kwon et al. "
                    "edit to about 0.5; later steps add detail to the edited picture.",
                ),
                io.Float.Input(
                    "boost_from",
                    default=0.83,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip='From here on fresh noise is added ("quality boosting"), which sharpens. About 0.83; 1 is '
                    "off and makes the sampler deterministic.",
                ),
                APPLY_TO,
                FIT,
            ],
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="To SamplerCustom or SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, direction, strength, edit_until, boost_from, apply_to, fit):
        options = dict(direction=direction, strength=strength, edit_until=edit_until, boost_from=boost_from)
        return io.NodeOutput(KSAMPLER(sample_asyrp, {**options, "apply_to": apply_to, "fit": fit}))


def sample_asyrp(
    model, x, sigmas, extra_args=None, callback=None, disable=None, noise_sampler=None, *, direction, strength: float,
    edit_until: float, boost_from: float, apply_to: str = "both", fit: str = "resize",
) -> Tensor:  # fmt: skip
    """x of the last sigma by Kwon et al. (ICLR 2023, arXiv 2210.10960), Eq. 3: the edited eps in P_t, the plain in D_t.

    In sigmas that is Euler's step plus the change that the edit makes to the predicted picture.
    """
    patcher = model.inner_model.model_patcher
    unet.require_fit(patcher, direction)
    until, boost = (patcher.get_model_object("model_sampling").percent_to_sigma(p) for p in (edit_until, boost_from))
    edit = unet.Patch(Injection(direction, (strength,), apply_to, fit), float("inf"), until)
    once, extra_args = EncodeOnce(), dict(extra_args or {})
    noise_sampler = noise_sampler or default_noise_sampler(x, seed=extra_args.get("seed"))
    options = create_model_options_clone(extra_args["model_options"])
    for kind, wrapper in ((WrappersMP.DIFFUSION_MODEL, once), (WrappersMP.APPLY_MODEL, unet.uncompiled)):
        comfy.patcher_extension.add_wrapper_with_key(kind, "hspace_asyrp", wrapper, options, is_model_options=True)
    editing = {**extra_args, "model_options": options}
    for i in range(len(sigmas) - 1):
        sigma = sigmas[i] * x.new_ones(len(x))
        edited = strength != 0 and float(sigmas[i]) > until
        denoised = model(x, sigma, **(editing if edited else extra_args))
        if callback is not None:
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        boosted = float(sigmas[i]) <= boost
        down, up = get_ancestral_step(sigmas[i], sigmas[i + 1], eta=float(boosted))
        exact = boosted and down == 0  # as core's euler_ancestral ends, and its euler doesn't
        following = denoised if exact else x + (x - denoised) / sigmas[i] * (down - sigmas[i])
        if edited:
            once.edit = edit
            following = following + (model(x, sigma, **editing) - denoised)
            once.edit = None
            once.whole.clear()
        x = following + noise_sampler(sigmas[i], sigmas[i + 1]) * up if up > 0 else following
    return x


NODES = [HSpaceAsyrpSampler]
