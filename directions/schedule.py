"""Where in the sampling a timestep stands."""

PURE_NOISE = 999.0
"""Timestep at which a sampling begins: ComfyUI's percent p of it is the timestep (1 - p) of this."""


def percent(timestep: float) -> float:
    """How much of the sampling is done at a timestep: 0 pure noise, 1 the picture."""
    return 1 - timestep / PURE_NOISE
