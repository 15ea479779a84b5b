"""A delta learnt step by step while a sampler runs.

No gradient passes from step to step: each step's own loss moves the delta, as in Kwon et al. Only the pictures of the
branch that is learnt from have a graph, and where it is too large for memory, a part of them at a time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...directions import Learner
from .baseline import Baseline
from .decoding import decoded_with_gradient
from .derivatives import derivatives
from .graph_budget import GraphBudget, in_parts
from .objective import Objective
from .split_passes import Branched
from .split_unet import SplitUNet


@dataclass(eq=False)
class TrainStep:
    """One minibatch on its way through the sampler: at each step the learner takes a step down its loss."""

    learner: Learner
    objective: Objective
    vae: object
    baseline: Baseline
    rows: list[int]
    """Which of the baseline's pictures these are."""
    keep: float

    def __post_init__(self) -> None:
        self.losses: list[float] = []

    def __call__(self, step: int, split_unet: SplitUNet, branched: Branched | None) -> Tensor:
        row, everything = min(step, len(self.learner.rows) - 1), slice(0, len(split_unet.h))
        if branched is None:
            return self._without_graph(row, split_unet, everything)
        sides = slice(0, branched.rows.start), slice(branched.rows.stop, everything.stop)
        before, after = (self._without_graph(row, split_unet, side) for side in sides)
        parts = in_parts(lambda part: self._learnt(step, row, split_unet, branched, part), len(branched))
        outs, losses, gradients = zip(*parts, strict=True)
        self.losses.append(sum(losses))
        self.learner.step(row, sum(gradients[1:], gradients[0]), self.losses[-1])
        return torch.cat([before, *outs, after])

    def _without_graph(self, row: int, split_unet: SplitUNet, rows: slice) -> Tensor:
        if rows.start == rows.stop:
            return split_unet.prediction[rows]
        with torch.inference_mode(False), torch.no_grad():
            some = split_unet.of(rows)
            return some.decode(some.h + self.learner.delta(row).to(some.h))

    def _learnt(self, step: int, row: int, split_unet: SplitUNet, branched: Branched, part: slice):
        """Of a part of the branch's pictures: the decoder's output, and their share of the loss and of its gradient."""
        budget = GraphBudget(split_unet.h.device)
        with derivatives():
            some = split_unet.of(branched.part(part))
            with budget.measured():
                out = some.decode(some.h + self.learner.delta(row).to(some.h))
                loss = self._loss(step, branched.latents(out, part), self.rows[part]) * (len(out) / len(branched))
            budget.require()
            return out.detach(), loss.item(), self.learner.gradient(row, loss)

    def _loss(self, step: int, edited: Tensor, rows: list[int]) -> Tensor:
        baseline = self.baseline
        unedited, before = baseline.predictions[step][rows].to(edited), baseline.features[step][rows]
        after = self.objective.features(decoded_with_gradient(self.vae, edited))
        spread, end = baseline.spread(step).to(after), baseline.spread(-1).to(after)
        kept = (edited - unedited).abs().mean() / baseline.predictions[-1].std().to(edited)
        return self.objective.loss(after, before.to(after), spread, end).mean() + self.keep * kept
