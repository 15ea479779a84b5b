"""Library: directions saved, loaded, and looked into."""

from . import load, save, show

NODES = [node for module in (save, load, show) for node in module.NODES]
