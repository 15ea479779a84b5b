"""Combine: directions added, and made independent of each other."""

from . import combine, leakage, orthogonalise

NODES = [node for module in (combine, orthogonalise, leakage) for node in module.NODES]
