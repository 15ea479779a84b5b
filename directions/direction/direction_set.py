"""The directions of one finder."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from .direction import Direction


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
