"""Direction: the value that everything is about, where it lives, and the space in which directions are compared."""

from .direction import Direction, common_timesteps
from .direction_set import DirectionSet
from .recipe import weighted_sum
from .source import MIDDLE, Source
from .space import LEAST_VARIANCE, Space, factors_of, spreads_of

__all__ = [
    "LEAST_VARIANCE",
    "MIDDLE",
    "Direction",
    "DirectionSet",
    "Source",
    "Space",
    "common_timesteps",
    "factors_of",
    "spreads_of",
    "weighted_sum",
]
