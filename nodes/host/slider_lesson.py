"""A direction learnt from what words change in the prediction, while a sampler runs on the prompt between them.

The objective of concept sliders (Gandikota et al., ECCV 2024, arXiv 2311.12092, Eq. 8) with the weights left alone, as
Haas et al. (FG 2024) and Self-Discovering (CVPR 2024, arXiv 2311.17216) leave them: the direction alone is learnt.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import comfy.model_management
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...directions import HOLD, SiteVector, drift, larger, least_squares_step
from .graph_budget import out_of_memory_told
from .patching import wrapped
from .products import jacobian_of
from .sites import sites_of
from .split_transformer import SplitTransformer
from .split_transformer import split as split_transformer
from .split_unet import SplitUNet
from .split_unet import split as split_unet
from .transformers import transformer_of

NEUTRAL, NEGATIVE, TOWARDS, AWAY, KEPT = range(5)
"""Places of the prompts in a call; of what is kept both sides follow, one after another."""
ITERATIONS = 5
"""Of least squares at each step."""

Split = SplitUNet | SplitTransformer


@dataclass(frozen=True, eq=False)
class Prompts:
    """Conditionings of a batch: without the word, the negative one, with the word, with its opposite."""

    neutral: list
    negative: list
    towards: list
    away: list
    kept: Sequence[list] = ()
    """Without the word, and with one side of a thing that is to stay, then with the other. Pictures of a pair have one
    seed then."""


def together(conditionings: Sequence[list]) -> list:
    """One conditioning of a batch in which each picture has a prompt of its own, as CLIP encodes them."""
    (first, options), *_ = conditionings[0]
    length = math.lcm(*(each[0][0].shape[1] for each in conditionings))  # as core makes prompts of unlike length equal
    joined = [each[0][0].repeat(1, length // each[0][0].shape[1], 1) for each in conditionings]
    pooled = [each[0][1].get("pooled_output") for each in conditionings]
    if all(each is not None for each in pooled):
        options = {**options, "pooled_output": torch.cat(pooled)}
    return [[torch.cat(joined), options]]


class Cut:
    """A wrapper of the model that keeps what it cuts of the calls with the neutral prompt. Lives for one sampling."""

    def __init__(self, site: str):
        self.site = site
        self.split: Split | None = None

    def __call__(self, executor, *args, **kwargs):
        call = inspect.signature(executor.original).bind(*args, **kwargs)
        call.apply_defaults()
        places = call.arguments["transformer_options"]["cond_or_uncond"]
        if NEUTRAL not in places:
            return executor(*args, **kwargs)
        split = split_transformer if transformer_of(executor.class_obj) else split_unet
        part = places.index(NEUTRAL), len(places)
        prediction, self.split = split(executor, *call.args, site=self.site, part=part, **call.kwargs)
        return prediction


@dataclass(eq=False)
class Teacher:
    """Solves for the direction at each step of a lesson, in which every other picture goes the opposite way."""

    vector: SiteVector
    learnt: list[Tensor]
    """`(d,)` for each step. What a lesson finds takes their place."""
    share: float
    """How much of what it finds a lesson adds: 1 in the first, less in those that follow."""
    eta: float
    """How many differences between the two words strength 1 is to go."""

    def __post_init__(self) -> None:
        self.losses: list[float] = []
        self.largest: list[Tensor] = []
        """What words for each thing kept have changed, at the step at which it was most: later it is settled."""

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self.vector.shapes)

    def teach(self, step: int, cut: Split, denoised, predicted: Sequence[Tensor], guided: Tensor) -> Tensor:
        """What the direction adds to the prediction."""
        device = cut.h.device
        difference = predicted[TOWARDS] - predicted[AWAY]
        signs = torch.tensor([1.0, -1.0]).repeat(len(cut.h))[: len(cut.h)].to(device)
        of_pictures = signs.reshape(-1, *(1,) * (difference.ndim - 1))
        wanted = self.eta * of_pictures * difference
        require_difference(wanted)
        kept = [having - lacking for having, lacking in zip(predicted[KEPT::2], predicted[KEPT + 1 :: 2], strict=True)]
        self.largest = list(map(larger, self.largest, kept)) if self.largest else kept
        for now, most in zip(kept, self.largest, strict=True):
            wanted = wanted - of_pictures * HOLD * drift(guided, most) * now

        def effect(learnt: Tensor) -> Tensor:
            return denoised(edited_decode(cut, self.vector.deltas(learnt), signs)) - predicted[NEUTRAL]

        now = self.learnt[step].to(device)
        with torch.no_grad():
            moved = effect(now)
        self.losses.append(float((wanted - moved).square().sum() / wanted.square().sum()))
        now = now * best_scale(moved, wanted)
        moved, jacobian = jacobian_of(effect, now)
        missing = wanted - moved
        interrupted = comfy.model_management.throw_exception_if_processing_interrupted
        found = least_squares_step(jacobian, missing.cpu(), ITERATIONS, interrupted).to(device)
        self.learnt[step] = now.cpu()
        for share in (self.share, self.share / 2, self.share / 4):  # it is linear only nearby
            changed = now + share * found
            with torch.no_grad():
                moved_by = effect(changed)
            if (wanted - moved_by).square().mean() < missing.square().mean():
                self.learnt[step] = changed.cpu()
                return moved_by
        return moved


def best_scale(moved: Tensor, wanted: Tensor) -> float:
    """How much of what was learnt is worth keeping, by pictures that it was not learnt from: 0 to 1."""
    size = float(moved.square().sum())
    return min(max(float((moved * wanted).sum()) / size, 0.0), 1.0) if size else 1.0


def require_difference(wanted: Tensor) -> None:
    """`ValueError` unless the mean square of what words change is a number above 0."""
    size = float(wanted.square().mean())
    if not math.isfinite(size):
        raise ValueError("The model predicts NaN or infinity. Load it in a higher precision.")
    if not size:
        raise ValueError(
            "The two words make no difference: got the same prediction with either, wanted another. Use words that "
            "the text encoder knows, and a cfg above 0."
        )


def edited_decode(cut: Split, deltas: Mapping[str, Tensor], signs: Tensor) -> Tensor:
    """The prediction with each site's delta, times every picture's sign, added to what is there."""
    signs = signs.reshape(-1, 1, 1, 1)
    add = lambda site: lambda h: h + (signs * deltas[site].to(h.device)).to(h)  # noqa: E731
    return cut.decode(add(cut.site)(cut.h), {site: add(site) for site in deltas if site != cut.site})


class Lesson(comfy.samplers.CFGGuider):
    """Guides pictures along their neutral prompts with the direction on, which is learnt at every step."""

    def __init__(self, model, prompts: Prompts, cfg: float, sigmas: Tensor, teacher: Teacher):
        self.cut, self.teacher = Cut(min(teacher.sites, key=sites_of(model).index)), teacher
        model = wrapped(model, differentiated=True)
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "hspace_lesson", self.cut)
        super().__init__(model)
        self.inner_set_conds({
            "positive": prompts.neutral,
            "negative": prompts.negative,
            "towards": prompts.towards,
            "away": prompts.away,
            **{f"kept {number}": each for number, each in enumerate(prompts.kept)},
        })  # fmt: skip
        self.set_cfg(cfg)
        self.sigmas = sigmas[:-1].float().cpu()

    def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006, ComfyUI's own signature
        prompts = list(self.conds.values())
        if self.cfg == 1:
            prompts[NEGATIVE] = None
        predicted = comfy.samplers.calc_cond_batch(self.inner_model, prompts, x, timestep, model_options)
        guided = predicted[NEUTRAL]
        if self.cfg != 1:
            guided = predicted[NEGATIVE] + self.cfg * (guided - predicted[NEGATIVE])
        step = int((self.sigmas - float(timestep[0])).abs().argmin())
        with torch.inference_mode(False):
            given = x.clone(), timestep.clone()
            denoised = lambda out: self.inner_model.model_sampling.calculate_denoised(given[1], out.float(), given[0])  # noqa: E731
            plain = [each.clone() for each in predicted]
            with out_of_memory_told():
                moved = self.teacher.teach(step, self.cut.split, denoised, plain, guided.clone())
        return guided + moved
