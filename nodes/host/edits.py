"""What is done to h while a model samples: a direction added, or another run's h in its place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from ...directions import MIDDLE, Direction
from .branches import Branch

ApplyTo = Literal["both", "positive", "negative"]
Fit = Literal["resize", "exact", "channel mean"]


class Layout(NamedTuple):
    """Of h `(prompts times samples, channels, height, width)` at a site."""

    branches: tuple[Branch | None, ...]
    """Which side of the guidance each prompt is; None is a guider's third prompt."""
    samples: int
    channels: int
    height: int
    width: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, h: Tensor, branches: tuple[Branch | None, ...]) -> "Layout":
        return cls(branches, len(h) // len(branches), *h.shape[1:], h.dtype, h.device)

    @property
    def on_card(self) -> bool:
        return self.device.type != "cpu"


class Window(NamedTuple):
    """The sigmas between which an edit acts: `end` is none of them, so that neighbouring windows share no step."""

    start: float
    end: float

    def holds(self, sigma):
        """Of a number a bool, of a tensor one of bools."""
        return (sigma > self.end) & (sigma <= self.start)


@dataclass(frozen=True, eq=False)
class Injection:
    """`strength` times a direction, which is added to h in a window.

    The direction stays in float32 on the CPU: what is added to h is cast.
    """

    direction: Direction
    strengths: tuple[float, ...]
    """One for all samples, or one for each sample of the batch."""
    window: Window
    apply_to: ApplyTo = "both"
    fit: Fit = "resize"
    mask: Tensor | None = None
    """`(m, height, width)` float32 in 0..1 on the CPU, m being 1 or the batch."""
    curve: Callable[[float], float] | None = None
    """What the strengths are multiplied with, by the timestep."""

    def added(self, at: Layout, site: str, timestep: float) -> Tensor:
        """What it adds to h there: `(n or 1, b or 1, c, h, w)` float32 on the CPU, for n prompts and b samples."""
        delta = self.direction.at(site, torch.tensor([timestep]))
        if delta.shape[1] != at.channels:
            raise ValueError(
                f'"{self.direction.name}" does not fit this model: got {delta.shape[1]} channels, wanted '
                f"{at.channels}. Load the model it was found in."
            )
        fit = "resize" if self.fit == "exact" and site != MIDDLE else self.fit  # other maps are kept pooled
        delta = fit_to(delta, (at.height, at.width), fit, self.direction.name)
        if self.mask is not None:
            delta = delta * adaptive_avg_pool2d(self.mask.unsqueeze(1), (at.height, at.width))
        factor = self.curve(timestep) if self.curve else 1.0
        delta = factor * torch.tensor(self.strengths).reshape(-1, 1, 1, 1) * delta
        if len(delta) not in (1, at.samples):
            raise ValueError(
                f"A mask for each picture is needed, or one for all: got {len(delta)} masks for {at.samples} pictures."
            )
        if self.apply_to == "both":
            return delta.unsqueeze(0)
        chosen = torch.tensor([float(branch == self.apply_to) for branch in at.branches])
        return chosen.reshape(-1, 1, 1, 1, 1) * delta


def fit_to(delta: Tensor, size: tuple[int, int], fit: Fit, name: str) -> Tensor:
    """`delta (m, c, h, w)` brought to another height and width, or to one place, for all that are there."""
    if fit == "channel mean":
        return delta.mean((2, 3), keepdim=True)
    if delta.shape[2:] == size or fit == "resize" and delta.shape[2:] == (1, 1):
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
    window: Window

    @property
    def timesteps(self) -> list[float]:
        """Where all of these sides were recorded, descending."""
        return sorted(set.intersection(*map(set, self.recorded.values())), reverse=True)

    def recorded_at(self, timestep: float) -> Mapping[Branch, Tensor]:
        """By side. `ValueError` where one was not recorded."""
        if any(timestep not in each for each in self.recorded.values()):
            raise not_recorded(timestep)
        return {side: each[timestep] for side, each in self.recorded.items()}


def replaced(h: Tensor, branches: tuple[Branch | None, ...], given: Mapping[Branch, Tensor]) -> Tensor:
    """h, but on these sides of the guidance what is given."""
    chunks = zip(h.chunk(len(branches)), branches, strict=True)
    return torch.cat([given[branch].to(chunk) if branch in given else chunk for chunk, branch in chunks])


def not_recorded(timestep: float) -> ValueError:
    return ValueError(
        f"The sampler came to timestep {timestep:g}, where nothing was recorded: it chooses its own steps. Use another "
        "sampler."
    )
