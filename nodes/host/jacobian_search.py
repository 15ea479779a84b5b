"""The search for one picture's directions while it is sampled."""

import json

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ...directions import Direction, DirectionSet, Triplets, clear_norm, leading_triplets
from .split_unet import SplitUNet

UNIT = "a change of 0.2 of the picture's standard deviation (of its masked part), to first order"


def steps_at(model, sigmas: Tensor, percents: list[float]) -> dict[float, str]:
    """The sigma of the step nearest to each percent, and its name. `ValueError` where two are the same."""
    sampling, steps = model.get_model_object("model_sampling"), sigmas[:-1]
    wanted = torch.tensor([sampling.percent_to_sigma(percent) for percent in percents]).clamp(max=float(steps[0]))
    nearest = (steps.log()[None] - wanted.clamp(min=1e-6).log()[:, None]).abs().argmin(1).tolist()
    if len(set(nearest)) < len(nearest):
        raise ValueError(
            f"Two percents fall on the same step: got {percents} for {len(steps)} steps. Use fewer, or more steps."
        )
    return {float(steps[i]): f"percent {percent:g}" for i, percent in zip(nearest, percents, strict=True)}


def pooled(mask: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """`mask` at the latent's size, `(1, height, width)`. `ValueError` for several, or one that is all black."""
    if mask is None:
        return None
    mask = mask.reshape(-1, *mask.shape[-2:])
    if len(mask) != 1 or not (mask > 0).any():
        raise ValueError(f"The mask must be one and not all black: got {len(mask)}. Paint what may change in white.")
    return adaptive_avg_pool2d(mask.float().cpu(), size)


class JacobianSearch:
    """Finds triplets at each sigma it is shown; lives for one sampling call."""

    def __init__(
        self, model, site: str, searches: int, count: int, protect_outside: int, mask: Tensor | None, seed: int
    ):
        self.site, self.sampling = site, model.get_model_object("model_sampling")
        self.count, self.protect_outside, self.mask, self.seed = count, protect_outside, mask, seed
        self.found: list[tuple[float, float, Triplets]] = []
        self.done, self.total = 0, searches * sum(12 + 5 * k for k in (count, protect_outside) if k)  # about
        self.bar = comfy.utils.ProgressBar(self.total)

    def __call__(self, sigma: float, split_unet: SplitUNet) -> None:
        jacobian = split_unet.jacobian().scaled(self._to_picture(sigma))
        if self.mask is not None:
            if self.protect_outside:
                rest = self._leading(jacobian.masked(1 - self.mask), self.protect_outside)
                jacobian = jacobian.without(rest.right)
            jacobian = jacobian.masked(self.mask)
        self.found.append((sigma, split_unet.timestep, self._leading(jacobian, self.count)))

    def directions(self, picture: Tensor, sigmas: Tensor, source, recipe: dict) -> DirectionSet:
        """All of them, strength 1 a clear edit, with their singular values of eps."""
        elements = picture[0].numel()
        area = elements if self.mask is None else float(self.mask.sum()) * elements / self.mask.numel()
        directions, spectrum = [], []
        for sigma, timestep, triplets in self.found:
            for number, (v, value) in enumerate(zip(triplets.right, triplets.values.tolist(), strict=True), 1):
                norm = clear_norm(value / sigma, sigma=sigma, contrast=float(picture.std()), area=area, sigmas=sigmas)
                direction = Direction(
                    deltas={self.site: norm * v[None]},
                    timesteps=torch.tensor([timestep]),
                    name=f"t {timestep:.0f} no. {number}",
                    method="Jacobian",
                    unit=UNIT,
                    source=source,
                    recipe=json.dumps({**recipe, "timestep": timestep, "number": number}),
                )
                directions.append(direction)
                spectrum.append(value / sigma)
        return DirectionSet(tuple(directions), torch.tensor(spectrum, dtype=torch.float64)[:, None], "singular value")

    def info(self) -> str:
        lines = [
            f"t {timestep:.0f}: singular values {', '.join(f'{value / sigma:.3g}' for value in t.values.tolist())}; "
            f"residual at most {t.residuals.max():.0e}; {sum(t.products)} products"
            for sigma, timestep, t in self.found
        ]
        return "\n".join(lines)

    def _leading(self, jacobian, count: int) -> Triplets:
        return leading_triplets(jacobian, count, seed=self.seed % (1 << 63), on_product=self._step)

    def _to_picture(self, sigma: float) -> float:
        """How the predicted picture follows the network's output, which ComfyUI makes linear."""
        one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
        return self.sampling.calculate_denoised(torch.tensor([sigma]), one, zero).item()

    def _step(self) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.done += 1
        self.bar.update_absolute(min(self.done, self.total))
