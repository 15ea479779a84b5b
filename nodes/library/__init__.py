"""Library: directions saved, loaded, and looked into."""

from . import compare, load, save, show, spectrum

NODES = [node for module in (save, load, show, spectrum, compare) for node in module.NODES]
