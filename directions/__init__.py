"""The mathematics of h-space directions: tensors in, immutable values out. Never imports ComfyUI."""

from .algebra import combine, cosines, orthogonalise
from .bank import Bank, open_bank, write_shard
from .direction import SITE, Direction, DirectionSet, Source
from .energy import layout, norms
from .files import load_direction, safe_path, save_direction
from .jacobian import Jacobian, Triplets, clear_norm, leading_triplets
from .leakage import Leakage, change
from .learn import Learner, aimed, directional, minibatch
from .pca import find_components
from .probe import followed, moved, noise_like
from .score_files import read_scores
from .scores import Scores
from .supervised import Found, find_from_examples, find_from_scores
from .weighted import Trust
from .window import percent, percent_before, settled, timestep_of, unfinished

__all__ = [
    "SITE",
    "Bank",
    "Direction",
    "DirectionSet",
    "Found",
    "Jacobian",
    "Leakage",
    "Learner",
    "Scores",
    "Source",
    "Triplets",
    "Trust",
    "aimed",
    "change",
    "clear_norm",
    "combine",
    "cosines",
    "directional",
    "find_components",
    "find_from_examples",
    "find_from_scores",
    "followed",
    "layout",
    "leading_triplets",
    "load_direction",
    "minibatch",
    "moved",
    "noise_like",
    "norms",
    "open_bank",
    "orthogonalise",
    "percent",
    "percent_before",
    "read_scores",
    "safe_path",
    "save_direction",
    "settled",
    "timestep_of",
    "unfinished",
    "write_shard",
]
