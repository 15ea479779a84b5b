"""A delta learnt step by step while a sampler runs.

No gradient passes from step to step: each step's own loss moves the delta, as in Kwon et al.
"""

from dataclasses import dataclass

from torch import Tensor

from ...directions import Learner
from .baseline import Baseline
from .decoding import decoded_with_gradient
from .derivatives import derivatives
from .graph_budget import GraphBudget
from .objective import Objective
from .split_passes import PredictedLatents
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

    def __call__(self, step: int, split_unet: SplitUNet, predicted: PredictedLatents | None) -> Tensor:
        row = min(step, len(self.learner.rows) - 1)
        budget = GraphBudget(split_unet.h.device)
        with derivatives():
            delta = self.learner.delta(row).to(split_unet.h)
            if predicted is None:
                return split_unet.decode(split_unet.h + delta.detach()).detach()
            with budget.measured():
                out = split_unet.decode(split_unet.h + delta)
                loss = self._loss(step, predicted(out))
            budget.require()
            self.learner.step(row, loss)
        self.losses.append(loss.item())
        return out.detach()

    def _loss(self, step: int, edited: Tensor) -> Tensor:
        baseline = self.baseline
        unedited, before = baseline.predictions[step][self.rows].to(edited), baseline.features[step][self.rows]
        after = self.objective.features(decoded_with_gradient(self.vae, edited))
        spread, end = baseline.spread(step).to(after), baseline.spread(-1).to(after)
        kept = (edited - unedited).abs().mean() / baseline.predictions[-1].std().to(edited)
        return self.objective.loss(after, before.to(after), spread, end).mean() + self.keep * kept
