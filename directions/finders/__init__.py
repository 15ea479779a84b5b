"""Finders: from a bank, from scores, from one picture's Jacobian, or under an objective."""

from .jacobian import Jacobian, Triplets, clear_norm, leading_triplets
from .learner import Learner, clip_directional_loss, minibatch, score_shift_loss
from .pairs import HALVES, PairSums
from .pca import find_components
from .supervised import FoundDirection, find_from_examples, find_from_scores

__all__ = [
    "HALVES",
    "FoundDirection",
    "Jacobian",
    "Learner",
    "PairSums",
    "Triplets",
    "clear_norm",
    "clip_directional_loss",
    "find_components",
    "find_from_examples",
    "find_from_scores",
    "leading_triplets",
    "minibatch",
    "score_shift_loss",
]
