"""Finders: from a bank, from scores, from one picture's Jacobian, or under an objective."""

from .jacobian import Jacobian, Triplets, clear_norm, leading_triplets
from .keeping import HOLD, drift, larger
from .learner import Learner, clip_directional_loss, minibatch, score_shift_loss
from .pairs import HALVES, PairSums
from .pca import find_components
from .supervised import FoundDirection, find_from_examples, find_from_scores
from .word_lesson import SiteVector, least_squares_step

__all__ = [
    "HALVES",
    "HOLD",
    "FoundDirection",
    "Jacobian",
    "Learner",
    "PairSums",
    "SiteVector",
    "Triplets",
    "clear_norm",
    "clip_directional_loss",
    "drift",
    "find_components",
    "find_from_examples",
    "find_from_scores",
    "larger",
    "leading_triplets",
    "least_squares_step",
    "minibatch",
    "score_shift_loss",
]
