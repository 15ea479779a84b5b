"""The mathematics of h-space directions: tensors in, immutable values out. Never imports ComfyUI."""

from .bank import Bank, open_bank, write_shard
from .direction import SITE, Direction, DirectionSet, Source
from .files import load_direction, safe_path, save_direction
from .pca import find_components

__all__ = [
    "SITE",
    "Bank",
    "Direction",
    "DirectionSet",
    "Source",
    "find_components",
    "load_direction",
    "open_bank",
    "safe_path",
    "save_direction",
    "write_shard",
]
