"""Inject: directions added to h while a model samples."""

from . import asyrp, inject, stack, sweep

NODES = [node for module in (inject, stack, sweep, asyrp) for node in module.NODES]
