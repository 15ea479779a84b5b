"""Measures: what a direction does, how steady it is, and what follows h at all."""

from .energy import layout, norms
from .leakage import Leakage, change
from .reliability import Contrast, Examples, Halvings, SplitHalfReliability
from .swap import norm_matched_noise, relative_distance, share_of_way

__all__ = [
    "Contrast",
    "Examples",
    "Halvings",
    "Leakage",
    "SplitHalfReliability",
    "change",
    "layout",
    "norm_matched_noise",
    "norms",
    "relative_distance",
    "share_of_way",
]
