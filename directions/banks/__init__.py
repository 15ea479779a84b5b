"""Banks: h along sampled trajectories, on disk, and what is said about their pictures."""

from .bank import Bank, open_bank, seeds_in, write_shard
from .score_file import read_scores
from .scores import Scores
from .work import gram_rows, in_order, mirrored, row_blocks

__all__ = [
    "Bank",
    "Scores",
    "gram_rows",
    "in_order",
    "mirrored",
    "open_bank",
    "read_scores",
    "row_blocks",
    "seeds_in",
    "write_shard",
]
