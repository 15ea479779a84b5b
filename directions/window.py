"""When an asymmetric edit should end, and when fresh noise may come: by how far pictures are from finished."""

import torch
from torch import Tensor

NOISE = 999.0
"""Timestep of pure noise: ComfyUI's percent p of the sampling is the timestep (1 - p) of it."""


def percent(timestep: float) -> float:
    """How much of the sampling is done at a timestep: 0 pure noise, 1 the picture."""
    return 1 - timestep / NOISE


def timestep_of(percent: float) -> float:
    """The timestep at which so much of the sampling is done."""
    return (1 - percent) * NOISE


def unfinished(seen: Tensor, finished: Tensor) -> Tensor:
    """`(t,)`: mean distance of what a judge sees in pictures on their way `(t, n, m)` from what it sees in the end.

    In a unit where 1 is the distance between two different finished pictures `(n, m)`. Each of the m numbers counts in
    its own standard deviation. It takes the place of Kwon et al.'s LPIPS, whose weights would have to be downloaded.
    """
    if len(finished) < 2:
        raise ValueError(f"Pictures are compared with each other: got {len(finished)}, wanted 2 or more. Raise count.")
    spread = finished.std(0)
    if not (spread > 0).all():
        raise ValueError(f"The judge sees the same in all {len(finished)} pictures: raise count or use another judge.")
    apart = torch.nn.functional.pdist(finished / spread).mean()
    distance: Tensor = ((seen - finished) / spread).norm(dim=-1).mean(-1) / apart
    return distance


def settled(distances: Tensor, share: float) -> int:
    """The step from which on every distance `(t,)` is under `share`; t if there is none."""
    far = (distances >= share).nonzero()
    return int(far[-1]) + 1 if len(far) else 0


def percent_before(step: int, timesteps: Tensor) -> float:
    """Where in the sampling, 0 to 1, the way from the step before `step` to it is half done; 0 and 1 at its ends."""
    if step == 0 or step == len(timesteps):
        return float(step > 0)
    return round(percent(float(timesteps[step - 1 : step + 1].mean())), 3)
