"""What an edit does to pictures, told by the pictures alone: how far they go where they should, and how far aside."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .swap import share_of_way

FASTER = 2.0
"""How many times as fast as at first pictures may go aside for what they go along."""


def gone_along(edited: Tensor, plain: Tensor, way: Tensor) -> Tensor:
    """How far pictures `(n, ...)` went along `way (...)`, `(n,)`: 0 nowhere, 1 all of it."""
    return share_of_way(edited, plain, plain + way)


def gone_aside(edited: Tensor, plain: Tensor, way: Tensor) -> Tensor:
    """How far pictures `(n, ...)` went in any direction but `way`, `(n,)`; 1 is as far as one picture is from another.

    `ValueError` for fewer than two pictures.
    """
    if len(plain) < 2:
        raise ValueError(f"How far pictures are apart needs two of them: got {len(plain)}. Take more pictures.")
    change, along = (edited - plain).double().flatten(1), way.double().flatten()
    rest = change - (change @ along / along.square().sum())[:, None] * along
    apart = torch.pdist(plain.double().flatten(1)).mean()
    distance: Tensor = rest.norm(dim=1) / apart
    return distance


def usable_range(strengths: Sequence[float], along: Sequence[float], aside: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest strength at which an edit still does what it is for.

    Away from 0, strength by strength, pictures must go on along their way, and not go aside over `FASTER` times as fast
    for it as at the first strength. 0 where they don't even at the first.
    """
    rows = sorted(zip(strengths, along, aside, strict=True))
    lowest = _last_usable([row for row in reversed(rows) if row[0] < 0], -1)
    return lowest, _last_usable([row for row in rows if row[0] > 0], 1)


def usable_in_sweep(pictures: Tensor, strengths: Sequence[float]) -> tuple[float, float] | None:
    """`usable_range` of pictures `(n, strengths, ...)`. Their way is what the strength nearest to 0 makes of them.

    None where it can't be told: with one picture, without strength 0, or with nothing else.
    """
    others = [strength for strength in strengths if strength]
    if len(pictures) < 2 or not others or len(others) == len(strengths):
        return None
    at = dict(zip(strengths, pictures.unbind(1), strict=True))
    least = min(others, key=abs)
    way = (at[least] - at[0]).mean(0) / least
    along, aside = ([float(measure(at[s], at[0], way).mean()) for s in others] for measure in (gone_along, gone_aside))
    return usable_range(others, along, aside)


def _last_usable(rows: Sequence[tuple[float, float, float]], sign: int) -> float:
    """The last strength of `rows`, which go away from 0, up to which all are usable."""
    last, before, first = 0.0, (0.0, 0.0), None
    for strength, along, aside in rows:
        gained, lost = sign * (along - before[0]), aside - before[1]
        if gained <= 0:
            break
        rate = lost / gained
        first = rate if first is None else first
        if rate > FASTER * first:
            break
        last, before = strength, (along, aside)
    return last
