"""Sampling run backwards: the noises with which a sampler arrives at a given picture, and a sampler that uses them.

Edit-friendly DDPM inversion (Huberman-Spiegelglas et al., CVPR 2024, arXiv 2304.06140), Alg. 1, and DDIM inversion, in
ComfyUI's sigmas: eta 1 is euler_ancestral, eta 0 euler. A picture's last noise is what the last step leaves: so the
picture is met exactly, not up to the model's last prediction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import comfy.samplers
import torch
from comfy.k_diffusion.sampling import get_ancestral_step
from torch import Tensor

from ...directions import Bank
from .transfers import uploaded


@dataclass(frozen=True, eq=False)
class Inversion:
    """What replays n pictures along `sigmas`."""

    start: Tensor
    """`(n, ...)`: the NOISE that is added to the pictures' latents before the first step."""
    noise: Callable[[int], Tensor]
    """What is added after a step, `(n, ...)`: read from the bank as the step is taken."""
    sigmas: Tensor
    """`(steps + 1,)`."""
    eta: float

    def sampler(self):
        """A SAMPLER that takes these noises step by step, for the same sigmas and as many pictures."""
        return comfy.samplers.KSAMPLER(sample_inversion, {"inversion": self})


def stored_inversion(bank: Bank, sigmas: Tensor, eta: float) -> Inversion:
    """The inversion whose noises are kept in `bank`. `ValueError` if they are not."""
    size = bank.latent_shape
    wanted = {"start": size, "error": ()} | ({"noises": (len(sigmas) - 1, *size)} if eta else {})
    if bank.extras != wanted:
        folder = bank.shards[0].path.parent.name
        raise ValueError(
            f"The bank {folder} does not hold the noises of an inversion: got {bank.extras}, wanted {wanted}. Delete "
            "its folder, and the pictures are inverted again."
        )
    return Inversion(bank.kept("start"), partial(bank.kept, "noises") if eta else no_noise, sigmas, eta)


def no_noise(step: int) -> Tensor:
    """DDIM adds none."""
    return torch.zeros(())


class InvertedNoise:
    """A NOISE that is what it was found to be."""

    def __init__(self, seed: int, noise: Tensor):
        self.seed, self._noise = seed, noise

    def generate_noise(self, latent: dict) -> Tensor:
        if latent["samples"].shape != self._noise.shape:
            raise ValueError(
                f"The inverted noise is for other pictures: got a latent of {tuple(latent['samples'].shape)}, wanted "
                f"{tuple(self._noise.shape)}. Connect Invert Image's own latent."
            )
        return self._noise


def independent_noise(latents: Tensor, seeds: Sequence[int], steps: int) -> Tensor:
    """Standard normals `(steps, n, ...)`, those of a picture from its own seed; the first are ComfyUI's own noise."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    each = [torch.randn(steps, 1, *latents.shape[1:], generator=generator) for generator in generators]
    return torch.cat(each, 1)


def invert_ddpm(
    model, x, sigmas, extra_args=None, callback=None, disable=None, *, noises: Tensor, found: list
) -> Tensor:
    """A sampler function that solves for the noises of its pictures and appends them to `found`, step by step.

    Each level's x is drawn on its own from the picture and `noises (steps, n, ...)`. What floating point made of a step
    is where the next one starts (the paper's correction of accumulated error), so a replay follows to the bit.
    """
    picture, schedule = model.latent_image, sigmas.cpu()
    for i in range(len(sigmas) - 1):
        denoised = _denoised(model, x, schedule[i], extra_args)
        mean = _mean(x, denoised, schedule[i], schedule[i + 1], eta=1.0)
        drawn = picture if i == len(sigmas) - 2 else picture + schedule[i + 1] * uploaded(noises[i + 1], picture)
        found.append(drawn - mean)
        x = mean + found[-1]
        _report(callback, i, x, sigmas, denoised)
    return x


def invert_ddim(model, x, sigmas, extra_args=None, callback=None, disable=None, *, found: list) -> Tensor:
    """A sampler function that follows DDIM's path from its pictures up to the first sigma.

    Appends to `found` the noise that starts there, when it is sampled from a noise of ones. Each step takes the slope
    where it begins, the step from the picture itself that of the lowest sigma: the better the more steps.
    """
    scale = x - model.latent_image
    x, schedule = model.latent_image, sigmas.cpu()
    for i in reversed(range(len(sigmas) - 1)):
        sigma = schedule[i + 1] if schedule[i + 1] > 0 else schedule[i]
        denoised = _denoised(model, x, sigma, extra_args)
        x = x + (x - denoised) / sigma * (schedule[i] - schedule[i + 1])
        _report(callback, len(sigmas) - 2 - i, x, sigmas, denoised)
    found.append((x - model.latent_image) / scale)
    return x


def sample_inversion(model, x, sigmas, extra_args=None, callback=None, disable=None, *, inversion: Inversion) -> Tensor:
    """A sampler function that takes an inversion's noises, step by step."""
    schedule = sigmas.cpu()
    if schedule.shape != inversion.sigmas.shape or not torch.allclose(schedule, inversion.sigmas, rtol=1e-5):
        raise ValueError(
            f"These sigmas are not those of the inversion: got {_listed(sigmas)}, wanted "
            f"{_listed(inversion.sigmas)}. Connect Invert Image's own sigmas."
        )
    if len(x) != len(inversion.start) or not torch.equal(model.noise.cpu(), inversion.start):
        raise ValueError(
            f"This is not the noise of the inversion: got {len(x)} pictures, wanted {len(inversion.start)} and "
            "their own noise. Connect Invert Image's own noise and latent."
        )
    for i in range(len(sigmas) - 1):
        denoised = _denoised(model, x, schedule[i], extra_args)
        x = _mean(x, denoised, schedule[i], schedule[i + 1], inversion.eta) + uploaded(inversion.noise(i), x)
        _report(callback, i, x, sigmas, denoised)
    return x


def _denoised(model, x: Tensor, sigma: Tensor, extra_args: dict | None) -> Tensor:
    return model(x, sigma * x.new_ones(len(x)), **(extra_args or {}))


def _mean(x: Tensor, denoised: Tensor, sigma: Tensor, following: Tensor, eta: float) -> Tensor:
    """Where a step goes before its noise. Of sigmas on the CPU, which decide without waiting."""
    down, _ = get_ancestral_step(sigma, following, eta=eta)
    return denoised if down == 0 else x + (x - denoised) / sigma * (down - sigma)


def _report(callback, i: int, x: Tensor, sigmas: Tensor, denoised: Tensor) -> None:
    if callback is not None:
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})


def _listed(sigmas: Tensor) -> str:
    return ", ".join(f"{sigma:.3g}" for sigma in sigmas.tolist())
