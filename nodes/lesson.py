"""What a sampler shows while it samples: the picture that is predicted at each step, and a delta learnt from it.

No gradient passes from step to step: each step's own loss moves the delta, as in Kwon et al.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..directions import Learner
from .decode import decoded_with_gradient
from .derivatives import GraphBudget, derivatives
from .halves import Halves, cut
from .judge import Judge
from .unet import Branch, chunk_of_branch, require_bottleneck, uncompiled

HALF_PRECISION_SCALE = 1024.0
"""Of the loss on its way through a decoder in float16, whose smallest gradients would vanish."""

Predicted = Callable[[Tensor], Tensor]
Visit = Callable[[int, Halves, Predicted | None], Tensor]


@dataclass(frozen=True, eq=False)
class Plain:
    """What unedited pictures are predicted to be at each step, and what the judge sees in them."""

    timesteps: Tensor
    """`(t,)`."""
    scale: Tensor
    """`(t,)`: standard deviation of h."""
    shape: tuple[int, ...]
    """Of h: channels, height, width."""
    predictions: Tensor
    """`(t, n, ...)` latents."""
    seen: Tensor
    """`(t, n, m)`."""

    @classmethod
    @torch.inference_mode(False)  # what a gradient meets must be ordinary tensors
    def joined(cls, parts: list["Plain"]) -> "Plain":
        first = parts[0]
        scale = torch.stack([part.scale.clone() for part in parts]).mean(0)
        predictions, seen = (torch.cat([getattr(part, key) for part in parts], 1) for key in ("predictions", "seen"))
        return cls(first.timesteps, scale, first.shape, predictions, seen)

    def spread(self, step: int) -> Tensor:
        """`(m,)`: standard deviation over the pictures."""
        return self.seen[step].std(0)


class Survey:
    """Sees what is predicted for unedited pictures. Lives for one sampling call, as `Lesson` does."""

    def __init__(self, judge: Judge, vae):
        self.judge, self.vae = judge, vae
        self.steps: dict[int, tuple] = {}

    def __call__(self, step: int, halves: Halves, predicted: Predicted | None) -> Tensor:
        if predicted is not None:
            with torch.inference_mode(False), torch.no_grad():
                latents = predicted(halves.prediction)
                seen = self.judge.look(decoded_with_gradient(self.vae, latents))
            spread = float(halves.h.float().std())
            self.steps[step] = (halves.timestep, spread, tuple(halves.h.shape[1:]), latents.cpu(), seen.cpu())
        return halves.prediction

    def plain(self) -> Plain:
        timesteps, scales, shapes, predictions, seen = zip(*(self.steps[i] for i in sorted(self.steps)), strict=True)
        return Plain(
            torch.tensor(timesteps), torch.tensor(scales), shapes[0], torch.stack(predictions), torch.stack(seen)
        )


@dataclass(eq=False)
class Lesson:
    """One minibatch on its way through the sampler: at each step the learner follows the judge once."""

    learner: Learner
    judge: Judge
    vae: object
    plain: Plain
    rows: list[int]
    """Which of the plain pictures these are."""
    keep: float

    def __post_init__(self) -> None:
        self.losses: list[float] = []

    def __call__(self, step: int, halves: Halves, predicted: Predicted | None) -> Tensor:
        row = min(step, len(self.learner.rows) - 1)
        budget = GraphBudget(halves.h.device)
        with derivatives():
            delta = self.learner.delta(row).to(halves.h)
            if predicted is None:
                return halves.decode(halves.h + delta.detach()).detach()
            with budget.watched():
                out = halves.decode(halves.h + delta)
                loss = self._loss(step, predicted(out))
            budget.require()
            self.learner.follow(row, loss, HALF_PRECISION_SCALE if out.dtype == torch.float16 else 1.0)
        self.losses.append(loss.item())
        return out.detach()

    def _loss(self, step: int, edited: Tensor) -> Tensor:
        plain, before = self.plain.predictions[step][self.rows].to(edited), self.plain.seen[step][self.rows]
        seen = self.judge.look(decoded_with_gradient(self.vae, edited))
        spread, end = self.plain.spread(step).to(seen), self.plain.spread(-1).to(seen)
        kept = (edited - plain).abs().mean() / self.plain.predictions[-1].std().to(edited)
        return self.judge.loss(seen, before.to(seen), spread, end).mean() + self.keep * kept


def watched(model, sigmas: Tensor, branch: Branch, visit: Visit, *, learning: bool):
    """A clone of `model` whose decoder is `visit(step, halves, predicted)` while it samples along `sigmas`.

    `predicted` makes the latents of the branch's predicted pictures of a decoder's output; it is None where a step is
    evaluated again, or the other side of the guidance alone.
    """
    require_bottleneck(model)
    watching, watch = model.clone(), _Watch(model, sigmas, branch, visit, learning)
    watching.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "hspace_lesson", watch)
    watching.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "hspace", uncompiled)
    return watching


class _Watch:
    """Lives for one sampling call."""

    def __init__(self, model, sigmas: Tensor, branch: Branch, visit: Visit, learning: bool):
        self.model, self.branch, self.visit, self.learning = model, branch, visit, learning
        self.sigmas = sigmas[:-1].float().cpu()
        self.waiting = set(self.sigmas.tolist())

    def __call__(self, executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
        options = transformer_options or {}
        kinds, sigma = options["cond_or_uncond"], float(options["sigmas"][0])
        step, chunk = int((self.sigmas - sigma).abs().argmin()), chunk_of_branch(kinds, self.branch)
        _, halves = cut(executor, x, timesteps, context, y, control, options, differentiable=self.learning, **kwargs)
        predicted = None
        if chunk is not None and sigma in self.waiting:
            self.waiting.remove(sigma)
            with torch.inference_mode(False), torch.no_grad():
                inputs = x.clone().chunk(len(kinds))[chunk]
            predicted = lambda out: self._latents(out.chunk(len(kinds))[chunk], inputs, sigma)  # noqa: E731
        return self.visit(step, halves, predicted)

    def _latents(self, out: Tensor, inputs: Tensor, sigma: float) -> Tensor:
        """Of the predicted pictures, as they would leave the sampler."""
        sampling = self.model.get_model_object("model_sampling")
        at = torch.tensor([sigma], device=out.device)
        scaled = sampling.calculate_input(at, torch.ones(1, 1, 1, 1, device=out.device))
        x0 = sampling.calculate_denoised(at, out.float(), inputs.float() / scaled)
        return self.model.model.process_latent_out(x0)
