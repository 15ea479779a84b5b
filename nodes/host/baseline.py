"""What a sampler predicts at each step for pictures that nobody edits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .decoding import decoded_with_gradient
from .graph_budget import in_parts
from .objective import Objective
from .split_passes import Branched
from .split_unet import SplitUNet

CONSTANT, EACH_TIMESTEP = "constant", "each timestep"


@dataclass(frozen=True, eq=False)
class Baseline:
    """What unedited pictures are predicted to be at each step, and what an objective sees in them."""

    timesteps: Tensor
    """`(t,)`."""
    scale: Tensor
    """`(t,)`: standard deviation of h."""
    shape: tuple[int, ...]
    """Of h: channels, height, width."""
    predictions: Tensor
    """`(t, n, ...)` latents."""
    features: Tensor
    """`(t, n, m)`."""

    @classmethod
    @torch.inference_mode(False)  # what a gradient meets must be ordinary tensors
    def joined(cls, parts: list["Baseline"]) -> "Baseline":
        first = parts[0]
        scale = torch.stack([part.scale.clone() for part in parts]).mean(0)
        predictions, features = (
            torch.cat([getattr(part, key) for part in parts], 1) for key in ("predictions", "features")
        )
        return cls(first.timesteps, scale, first.shape, predictions, features)

    def scale_over(self, span: str) -> Tensor:
        """`(rows,)`: of one delta for all steps, or of one for each."""
        return self.scale if span == EACH_TIMESTEP else self.scale.mean()[None]

    def spread(self, step: int) -> Tensor:
        """`(m,)`: standard deviation over the pictures."""
        return self.features[step].std(0)


class BaselinePass:
    """Sees what is predicted for unedited pictures. Lives for one sampling call, as `TrainStep` does."""

    def __init__(self, objective: Objective, vae):
        self.objective, self.vae = objective, vae
        self.steps: dict[int, tuple] = {}

    def __call__(self, step: int, split_unet: SplitUNet, branched: Branched | None) -> Tensor:
        if branched is not None:
            with torch.inference_mode(False), torch.no_grad():
                latents = branched.latents(split_unet.prediction[branched.rows], slice(None))
                features = torch.cat(in_parts(lambda part: self._features(latents[part]), len(latents)))
            spread = float(split_unet.h.float().std())
            self.steps[step] = (
                split_unet.timestep,
                spread,
                tuple(split_unet.h.shape[1:]),
                latents.cpu(),
                features.cpu(),
            )
        return split_unet.prediction

    def _features(self, latents: Tensor) -> Tensor:
        return self.objective.features(decoded_with_gradient(self.vae, latents))

    def baseline(self) -> Baseline:
        timesteps, scales, shapes, predictions, features = zip(
            *(self.steps[i] for i in sorted(self.steps)), strict=True
        )
        return Baseline(
            torch.tensor(timesteps), torch.tensor(scales), shapes[0], torch.stack(predictions), torch.stack(features)
        )
