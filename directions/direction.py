"""A semantic direction: what to add to h at every timestep, and where it came from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .recipe import weighted_sum

SITE = "middle_block_after"
"""The one place h is read and written: the UNet's middle block's output, "after" in Haas et al.'s code."""


@dataclass(frozen=True)
class Source:
    """Where h was recorded. A direction fits only models of the same family and the same site."""

    family: str
    """ComfyUI's name of the model family, such as "SD15", "SDXL" or "DDPM"."""
    fingerprint: str
    """Digest of the weights it was recorded with."""
    branch: str
    """"positive" or "negative": the side of the guidance h was read from."""
    image_size: tuple[int, int]
    """Width and height in pixels."""
    site: str = SITE

    def require_match(self, other: "Source") -> None:
        """`ValueError` unless a direction from `other` can live where this one does."""
        for what, got, wanted in (
            ("model family", other.family, self.family),
            ("place in the UNet", other.site, self.site),
        ):
            if got != wanted:
                raise ValueError(
                    f"The directions come from different models: got {what} {got}, wanted {wanted}. "
                    "Find both with the same model."
                )


@dataclass(frozen=True, eq=False)
class Direction:
    """A trajectory through h-space, in a unit where 1 is a clear edit."""

    delta: Tensor
    """`(t, c, h, w)` float32 on the CPU; t == 1 means the same at every timestep."""
    timesteps: Tensor
    """`(t,)` float32, model time, strictly descending."""
    name: str
    method: str
    """How it was found, such as "PCA per timestep"."""
    unit: str
    """What strength 1 means, in words."""
    source: Source
    recipe: str
    """JSON: what to do to find it again."""
    author: str = ""
    """Who made it, as they wish to be named."""

    def __post_init__(self) -> None:
        if self.delta.ndim != 4 or self.delta.dtype != torch.float32:
            raise ValueError(
                f"A direction's delta must be float32 of shape (t, c, h, w): got {self.delta.dtype} "
                f"of shape {tuple(self.delta.shape)}."
            )
        if self.timesteps.shape != self.delta.shape[:1] or self.timesteps.dtype != torch.float32:
            raise ValueError(
                f"A direction needs one float32 timestep for each delta: got {tuple(self.timesteps.shape)} "
                f"timesteps for {len(self.delta)} deltas."
            )
        if self.delta.numel() == 0:
            raise ValueError(f"A direction must not be empty: got shape {tuple(self.delta.shape)}.")
        if not (torch.isfinite(self.delta).all() and torch.isfinite(self.timesteps).all()):
            raise ValueError(f'Direction "{self.name[:200]}" holds NaN or infinity: find it again.')
        if not (self.timesteps.diff() < 0).all():
            raise ValueError(f"A direction's timesteps must descend strictly: got {self.timesteps[:50].tolist()}.")

    def at(self, timesteps: Tensor) -> Tensor:
        """The delta `(m, c, h, w)` at `timesteps (m,)`: linear between its own, held outside their range."""
        if len(self.timesteps) == 1:
            return self.delta.expand(len(timesteps), -1, -1, -1)
        wanted = timesteps.float().clamp(self.timesteps[-1], self.timesteps[0])
        after = torch.searchsorted(-self.timesteps, -wanted).clamp(1, len(self.timesteps) - 1)  # descending
        earlier, later = self.timesteps[after - 1], self.timesteps[after]
        weight = ((earlier - wanted) / (earlier - later)).reshape(-1, 1, 1, 1)
        return torch.lerp(self.delta[after - 1], self.delta[after], weight)

    def require_same_space(self, other: "Direction") -> None:
        """`ValueError` unless `other` can be added to this direction."""
        self.source.require_match(other.source)
        if self.delta.shape[1:] != other.delta.shape[1:]:
            raise ValueError(
                f'"{self.name}" and "{other.name}" differ in size: got {tuple(other.delta.shape[1:])}, wanted '
                f"{tuple(self.delta.shape[1:])} (channels, height, width). Find both at the same image size."
            )

    def renamed(self, name: str) -> "Direction":
        return replace(self, name=name)

    def __add__(self, other: "Direction") -> "Direction":
        self.require_same_space(other)
        timesteps = common_timesteps(self.timesteps, other.timesteps)
        return replace(
            self,
            delta=self.at(timesteps) + other.at(timesteps),
            timesteps=timesteps,
            name=f"{self.name} + {other.name}",
            method=self.method if self.method == other.method else "combination",
            unit=self.unit if self.unit == other.unit else "of its parts",
            recipe=weighted_sum([(1, self.recipe), (1, other.recipe)]),
            author=", ".join(dict.fromkeys(filter(None, (self.author, other.author)))),
        )

    def __mul__(self, factor: float) -> "Direction":
        return self._times(factor, f"{factor:g} {self.name}")

    __rmul__ = __mul__

    def __neg__(self) -> "Direction":
        return self._times(-1, f"-{self.name}")

    def __sub__(self, other: "Direction") -> "Direction":
        return (self + -other).renamed(f"{self.name} - {other.name}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Direction):
            return NotImplemented
        words = [(d.name, d.method, d.unit, d.source, d.recipe, d.author) for d in (self, other)]
        return (
            words[0] == words[1]
            and torch.equal(self.delta, other.delta)
            and torch.equal(self.timesteps, other.timesteps)
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value, as tensors are

    def _times(self, factor: float, name: str) -> "Direction":
        return replace(self, delta=self.delta * factor, recipe=weighted_sum([(factor, self.recipe)]), name=name)


def common_timesteps(a: Tensor, b: Tensor) -> Tensor:
    """Both sets of timesteps, descending. A direction of one timestep is constant, so it adds none."""
    if len(a) == 1 or len(b) == 1:
        return b if len(a) == 1 else a
    ascending: Tensor = torch.unique(torch.cat([a, b]))
    return ascending.flip(0)


@dataclass(frozen=True, eq=False)
class DirectionSet:
    """The directions of one finder, strongest first."""

    directions: tuple[Direction, ...]
    spectrum: Tensor
    """`(k, t)` float64: how much each direction matters at each timestep."""
    spectrum_name: str
    """What the spectrum's numbers are, such as "explained variance ratio"."""

    def __len__(self) -> int:
        return len(self.directions)

    def __iter__(self) -> Iterator[Direction]:
        return iter(self.directions)

    def __getitem__(self, index: int) -> Direction:
        """Direction `index`, counted from 0."""
        if not 0 <= index < len(self):
            raise ValueError(f"There is no direction {index + 1}: the set holds {len(self)}. Pick 1 to {len(self)}.")
        return self.directions[index]
