"""Inject: directions added to h while a model samples."""

from . import asyrp, explore, inject, stack, sweep

NODES = [node for module in (inject, stack, sweep, explore, asyrp) for node in module.NODES]
