"""Find directions of one image: the Jacobian of what the model predicts there."""

import json

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io, ui
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ..directions import Direction, DirectionSet, Triplets, clear_norm, leading_triplets
from .digest import digest
from .halves import Halves, at_sigmas
from .inputs import BRANCH, CFG, seed_input
from .record import recipe_of, source_of
from .sampling import sample, single_latent
from .text_fields import parse_percents
from .types import CATEGORY, HSpaceDirections

UNIT = "a change of 0.2 of the picture's standard deviation (of its masked part), to first order"


class HSpaceFindJacobian(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceFindJacobian",
            display_name="Find Directions (Jacobian)",
            category=CATEGORY,
            description="Finds what can change most in this one picture: the directions to which the model's "
            "prediction is most sensitive, at one timestep or several, in the whole picture or behind a mask. Needs no "
            "bank and no examples (Haas et al. 2024).",
            search_aliases=["singular vectors", "image-specific", "local edit", "mask", "unsupervised", "discover"],
            inputs=[
                io.Model.Input("model", tooltip="A UNet with a bottleneck: SD1.x, SD2.x, SDXL or a pixel DDPM."),
                io.Conditioning.Input("positive", tooltip="As for the sampler."),
                io.Conditioning.Input("negative", tooltip="As for the sampler. Not used at cfg 1."),
                io.Sampler.Input("sampler", tooltip="As for the sampler: the picture is the one SamplerCustom makes."),
                io.Sigmas.Input("sigmas", tooltip="As for the sampler."),
                io.Latent.Input("latent", tooltip="One latent: empty, or a picture to start from."),
                seed_input("The picture's seed, as SamplerCustom's noise_seed."),
                io.String.Input(
                    "percents",
                    default="0.4",
                    tooltip="Where in the sampling to look, one or several with commas between: 0 is pure noise (big "
                    "changes), 1 the finished picture (small ones). 0.2 to 0.8. Each takes the nearest step.",
                ),
                io.Int.Input(
                    "count", default=3, min=1, max=100, tooltip="Directions for each percent, strongest first. 3 to 10."
                ),
                CFG,
                io.Int.Input(
                    "protect_outside",
                    default=10,
                    min=0,
                    max=100,
                    advanced=True,
                    tooltip="With a mask: keep clear of this many directions that change the rest of the picture most. "
                    "More is more local, and weaker and slower. 0 (off) to 20; without a mask it has no effect.",
                ),
                BRANCH,
                io.Mask.Input("mask", optional=True, tooltip="Look only for what changes the white part."),
            ],
            outputs=[
                HSpaceDirections.Output(
                    display_name="directions", tooltip="To Explore Directions, or Pick Direction: percent by percent."
                ),
                io.Latent.Output(display_name="latent", tooltip="The picture itself."),
                io.String.Output(display_name="info", tooltip="Singular values, and how exact they are."),
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, sampler, sigmas, latent, seed, percents, count, cfg, protect_outside, branch,
        mask=None,
    ):  # fmt: skip
        latent = single_latent(model, latent)
        run = dict(positive=positive, negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas)
        search = _Search(model, count, protect_outside, pooled(mask, latent["samples"].shape[-2:]), seed)
        wanted = steps_at(model, sigmas, parse_percents(percents))
        watched = at_sigmas(model, search, set(wanted), branch)
        search.expect(len(wanted))
        picture = sample(watched, **run, latent=latent, seeds=[seed], on_step=lambda x0: None)
        recipe = {
            "find": "Jacobian",
            "picture": json.loads(recipe_of(model, **run, latent=latent, branch=branch)),
            "seed": seed,
            "mask": None if mask is None else digest(mask),
            "protect_outside": protect_outside,
        }
        directions = search.directions(picture, sigmas, source_of(model, latent, branch), recipe)
        info = search.info()
        return io.NodeOutput(directions, {"samples": picture}, info, ui=ui.PreviewText(info))


def steps_at(model, sigmas: Tensor, percents: list[float]) -> list[float]:
    """The sigma of the step nearest to each percent. `ValueError` where two are the same."""
    sampling, steps = model.get_model_object("model_sampling"), sigmas[:-1]
    wanted = torch.tensor([sampling.percent_to_sigma(percent) for percent in percents]).clamp(max=float(steps[0]))
    nearest = (steps.log()[None] - wanted.clamp(min=1e-6).log()[:, None]).abs().argmin(1).tolist()
    if len(set(nearest)) < len(nearest):
        raise ValueError(
            f"Two percents fall on the same step: got {percents} for {len(steps)} steps. Use fewer, or more steps."
        )
    return [float(steps[i]) for i in nearest]


def pooled(mask: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """`mask` at the latent's size, `(1, height, width)`. `ValueError` for several, or one that is all black."""
    if mask is None:
        return None
    mask = mask.reshape(-1, *mask.shape[-2:])
    if len(mask) != 1 or not (mask > 0).any():
        raise ValueError(f"The mask must be one and not all black: got {len(mask)}. Paint what may change in white.")
    return adaptive_avg_pool2d(mask.float().cpu(), size)


class _Search:
    """Finds triplets at each sigma it is shown; lives for one sampling call."""

    def __init__(self, model, count: int, protect_outside: int, mask: Tensor | None, seed: int):
        self.sampling = model.get_model_object("model_sampling")
        self.count, self.protect_outside, self.mask, self.seed = count, protect_outside, mask, seed
        self.found: list[tuple[float, float, Triplets]] = []

    def expect(self, searches: int) -> None:
        self.done, self.total = 0, searches * (26 + 8 * self.count + 8 * self.protect_outside)  # about
        self.bar = comfy.utils.ProgressBar(self.total)

    def __call__(self, sigma: float, halves: Halves) -> None:
        jacobian = halves.jacobian().scaled(self._to_picture(sigma))
        if self.mask is not None:
            if self.protect_outside:
                rest = self._leading(jacobian.masked(1 - self.mask), self.protect_outside)
                jacobian = jacobian.without(rest.right)
            jacobian = jacobian.masked(self.mask)
        self.found.append((sigma, halves.timestep, self._leading(jacobian, self.count)))

    def directions(self, picture: Tensor, sigmas: Tensor, source, recipe: dict) -> DirectionSet:
        """All of them, strength 1 a clear edit, with their singular values of eps."""
        elements = picture[0].numel()
        area = elements if self.mask is None else float(self.mask.sum()) * elements / self.mask.numel()
        directions, spectrum = [], []
        for sigma, timestep, triplets in self.found:
            for number, (v, value) in enumerate(zip(triplets.right, triplets.values.tolist(), strict=True), 1):
                norm = clear_norm(value / sigma, sigma=sigma, contrast=float(picture.std()), area=area, sigmas=sigmas)
                direction = Direction(
                    delta=norm * v[None],
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


NODES = [HSpaceFindJacobian]
