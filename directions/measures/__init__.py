"""Measures: what a direction does, how steady it is, and what follows h at all."""

from .effect import gone_along, gone_aside, usable_in_sweep, usable_range
from .energy import layout, norms
from .leakage import Leakage, change
from .reliability import Contrast, Examples, Halvings, SplitHalfCosine, SplitHalfReliability
from .swap import norm_matched_noise, relative_distance, share_of_way

__all__ = [
    "Contrast",
    "Examples",
    "Halvings",
    "Leakage",
    "SplitHalfCosine",
    "SplitHalfReliability",
    "change",
    "gone_along",
    "gone_aside",
    "layout",
    "norm_matched_noise",
    "norms",
    "relative_distance",
    "share_of_way",
    "usable_in_sweep",
    "usable_range",
]
