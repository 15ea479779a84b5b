"""What is done to h while a model samples: a direction added, or another run's h in its place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from ...directions import MIDDLE, Direction, percent
from .branches import Branch

ApplyTo = Literal["both", "positive", "negative"]
Fit = Literal["resize", "exact", "channel mean"]


@dataclass(frozen=True, eq=False)
class UNetCall:
    """One evaluation of the UNet, as it passes a site."""

    site: str
    chunks: tuple[Tensor, ...]
    """h `(samples, c, h, w)` of each prompt in the batch."""
    branches: tuple[Branch | None, ...]
    """Which side of the guidance each chunk is; None is a guider's third prompt."""
    timestep: float


Edit = Callable[[UNetCall], list[Tensor]]
"""What takes the place of the chunks; it leaves those it is given as they are."""


@dataclass(frozen=True, eq=False)
class Injection:
    """An edit that adds `strength` times a direction to h.

    The direction stays in float32 on the CPU: each call casts a copy.
    """

    direction: Direction
    strengths: tuple[float, ...]
    """One for all samples, or one for each sample of the batch."""
    apply_to: ApplyTo = "both"
    fit: Fit = "resize"
    mask: Tensor | None = None
    """`(m, height, width)` float32 in 0..1 on the CPU, m being 1 or the batch."""
    curve: Callable[[float], float] | None = None
    """What the strengths are multiplied with, by how much of the sampling is done: 0 pure noise, 1 the picture."""

    def __call__(self, call: UNetCall) -> list[Tensor]:
        edited = [self.apply_to in ("both", branch) for branch in call.branches]
        if not any(edited):
            return list(call.chunks)
        delta, samples = self._delta(call), len(call.chunks[0])
        if len(delta) not in (1, samples):
            raise ValueError(
                f"A mask for each picture is needed, or one for all: got {len(delta)} masks for {samples} pictures."
            )
        return [h + delta if chosen else h for h, chosen in zip(call.chunks, edited, strict=True)]

    def _delta(self, call: UNetCall) -> Tensor:
        """What to add to each sample of a chunk: `(1 or b, c, h, w)` like h."""
        h = call.chunks[0]
        delta = self.direction.at(call.site, torch.tensor([call.timestep])).to(h.device)
        if delta.shape[1] != h.shape[1]:
            raise ValueError(
                f'"{self.direction.name}" does not fit this model: got {delta.shape[1]} channels, wanted '
                f"{h.shape[1]}. Load the model it was found in."
            )
        fit = "resize" if self.fit == "exact" and call.site != MIDDLE else self.fit  # other maps are kept pooled
        delta = fit_to(delta, (h.shape[2], h.shape[3]), fit, self.direction.name)
        if self.mask is not None:
            delta = delta * adaptive_avg_pool2d(self.mask.to(h.device).unsqueeze(1), h.shape[2:])
        factor = self.curve(percent(call.timestep)) if self.curve else 1.0
        strengths = factor * torch.tensor(self.strengths, device=h.device).reshape(-1, 1, 1, 1)
        return (strengths * delta).to(h.dtype)


def fit_to(delta: Tensor, size: tuple[int, int], fit: Fit, name: str) -> Tensor:
    """`delta (m, c, h, w)` brought to another height and width."""
    if fit == "channel mean":
        return delta.mean((2, 3), keepdim=True)
    if delta.shape[2:] == size:
        return delta
    if fit == "exact":
        raise ValueError(
            f'"{name}" was found at a map of {delta.shape[3]}x{delta.shape[2]}, this image gives '
            f"{size[1]}x{size[0]}: use the image size it was found at, or set fit to resize."
        )
    return interpolate(delta, size, mode="bilinear", antialias=True)


@dataclass(frozen=True, eq=False)
class Substitution:
    """An edit that puts recorded h in the place of the model's own."""

    recorded: Mapping[Branch, Mapping[float, Tensor]]
    """h `(n, c, h, w)` by timestep, for each side of the guidance that is replaced."""

    def __call__(self, call: UNetCall) -> list[Tensor]:
        if any(call.timestep not in each for each in self.recorded.values()):
            raise ValueError(
                f"The sampler came to timestep {call.timestep:g}, where nothing was recorded: it chooses its own "
                "steps. Use another sampler."
            )
        return [
            self.recorded[branch][call.timestep].to(h) if branch in self.recorded else h
            for h, branch in zip(call.chunks, call.branches, strict=True)
        ]
