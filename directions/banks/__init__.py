"""Banks: h along sampled trajectories, on disk, and what is said about their pictures."""

from .bank import Bank, open_bank, seeds_in, write_shard
from .score_file import read_scores
from .scores import Scores
from .work import in_order

__all__ = [
    "Bank",
    "Scores",
    "in_order",
    "open_bank",
    "read_scores",
    "seeds_in",
    "write_shard",
]
