"""Sampling in which every picture depends on its own seed alone, whatever the batch it is sampled in.

For a batch of one, noise and result are those of ComfyUI's own SamplerCustom with the same seed.
"""

import inspect
from collections.abc import Callable, Sequence

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from comfy.k_diffusion import sampling as k_diffusion
from torch import Tensor

from .sites import require_editable

Step = Callable[[Tensor], None]


def sample(
    model,
    *,
    positive,
    negative,
    cfg: float,
    sampler,
    sigmas: Tensor,
    latent: dict,
    seeds: Sequence[int],
    on_step: Step,
) -> Tensor:
    """Finished latents `(n, ...)` float32 on the CPU, one for each seed. `latent` is as `single_latent` gives it."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return sample_guided(guider, sampler=sampler, sigmas=sigmas, latent=latent, seeds=seeds, on_step=on_step)


def sample_guided(guider, *, sampler, sigmas: Tensor, latent: dict, seeds: Sequence[int], on_step: Step) -> Tensor:
    """The same by a guider of its own."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    empty = latent["samples"]
    noise = torch.cat([comfy.sample.prepare_noise(empty, seed) for seed in seeds])
    samples = guider.sample(
        noise,
        empty.expand(len(seeds), *empty.shape[1:]).clone(),
        with_noise_per_sample(sampler, latent, sigmas, seeds, guider.model_patcher.load_device),
        sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=lambda step, x0, x, total: on_step(x0),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seeds[0],
    )
    return samples.float().cpu()


def single_latent(model, latent: dict) -> dict:
    """`latent` with the model's own number of channels. `ValueError` unless it is one still picture."""
    require_editable(model)  # first: the latents of other models have other shapes, and that is not the matter
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"], latent.get("downscale_ratio_spacial"))
    dimensions = 2 + model.get_model_object("latent_format").latent_dimensions
    if samples.ndim != dimensions or len(samples) != 1:
        wanted = "height, width" if dimensions == 4 else "frames, height, width"
        raise ValueError(
            f"The latent must be one picture: got a batch of shape {tuple(samples.shape)}, wanted "
            f"(1, channels, {wanted}). Set its batch size to 1: the number of pictures is chosen in this node."
        )
    own = {key: value for key, value in latent.items() if key != "downscale_ratio_spacial"}  # it has been heeded
    return {**own, "samples": samples}


def seed_range(first: int, count: int) -> range:
    """`count` seeds from `first` up. `ValueError` where they leave the 64 bits a seed has."""
    if first + count > 1 << 64:
        raise ValueError(f"Seeds end at {(1 << 64) - 1}: got {count} from {first}. Lower first_seed.")
    return range(first, first + count)


def with_noise_per_sample(sampler, latent: dict, sigmas: Tensor, seeds: Sequence[int], device):
    """`sampler` with the noise of its steps drawn for each sample from that sample's own seed."""
    if len(seeds) > 1:
        _require_independent(sampler, masked="noise_mask" in latent)
    function = getattr(sampler, "sampler_function", None)
    if function is None or "noise_sampler" not in inspect.signature(function).parameters:
        return sampler
    template = torch.empty(latent["samples"].shape, device=device)
    if _uses_brownian_noise(function) and sigmas.max() > 0:
        smallest = sigmas[sigmas > 0].min()
        on_cpu = not function.__name__.endswith("_gpu")
        batch = template.expand(len(seeds), *template.shape[1:])
        noise = k_diffusion.BrownianTreeNoiseSampler(batch, smallest, sigmas.max(), seed=list(seeds), cpu=on_cpu)
    else:
        each = [k_diffusion.default_noise_sampler(template, seed=seed) for seed in seeds]
        noise = lambda sigma, sigma_next: torch.cat([draw(sigma, sigma_next) for draw in each])  # noqa: E731
    options = {**sampler.extra_options, "noise_sampler": noise}
    return comfy.samplers.KSAMPLER(function, options, sampler.inpaint_options)


def _uses_brownian_noise(function) -> bool:
    """Whether ComfyUI's sampler makes a Brownian tree when it is given no noise, itself or by calling one that does."""
    called = getattr(inspect.unwrap(function), "__code__", None)  # past torch.no_grad
    names = called.co_names if called else ()
    return "BrownianTreeNoiseSampler" in names or any(
        _uses_brownian_noise(getattr(k_diffusion, name)) for name in names if name.startswith("sample_")
    )


def _require_independent(sampler, *, masked: bool) -> None:
    """`ValueError` for samplers that mix the samples of a batch."""
    name = getattr(getattr(sampler, "sampler_function", None), "__name__", type(sampler).__name__)
    if not isinstance(sampler, comfy.samplers.KSAMPLER):
        reason = "may draw noise for the whole batch"
    elif name == "dpm_adaptive_function":
        reason = "chooses its steps by the whole batch"
    elif sampler.extra_options.get("s_churn", 0) > 0:
        reason = "draws its churn noise for the whole batch"
    elif masked and sampler.inpaint_options.get("random", False):
        reason = "draws its inpainting noise for the whole batch"
    else:
        return
    raise ValueError(
        f"{name} {reason}, so a picture would not depend on its seed alone: set batch_size to 1 or use another sampler."
    )
