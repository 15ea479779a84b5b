"""Directions combined, compared, and made independent of each other."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Literal

import torch
from scipy.linalg import lstsq
from torch import Tensor

from .direction import Direction, Space

Span = Literal["whole trajectory", "each timestep"]

SAME = 1e-6
"""Part of its norm by which a direction must leave the span of others to count as new: ten times float32's rounding."""
NOTHING_LEFT = 1e-4
"""Part of its norm below which what is left of a direction is rounding."""


def combine(directions: Sequence[Direction], strengths: Sequence[float], name: str = "") -> Direction:
    """The sum of `directions`, each times its strength, as one direction whose strength 1 is that sum."""
    if not directions or len(directions) != len(strengths):
        raise ValueError(
            f"Each direction needs a strength: got {len(strengths)} strengths for {len(directions)} directions."
        )
    weighted = [
        direction if strength == 1 else direction * strength
        for direction, strength in zip(directions, strengths, strict=True)
    ]
    combined = reduce(Direction.__add__, weighted)
    return combined.renamed(name or combined.name)


def orthogonalise(
    direction: Direction, protected: Sequence[Direction], *, span: Span = "whole trajectory"
) -> Direction:
    """`direction` without its parts along `protected`: Haas et al. (FG 2024, arXiv 2303.11073), Eq. 12.

    "whole trajectory" takes inner products over all timesteps at once, as in the paper; "each timestep" removes more.
    Protected directions may repeat or lean on each other. `ValueError` if nothing would be left. The strength keeps its
    unit: what remains moves h less than before.
    """
    space = Space.of([direction, *protected])
    own, *others = (space.vector(each) for each in (direction, *protected))
    parts = own.flatten().unsqueeze(0) if span == "whole trajectory" else own
    removed = [other.reshape(parts.shape) for other in others]
    left = torch.stack([_without(part, [other[i] for other in removed]) for i, part in enumerate(parts)])
    before, after = parts.double().norm(), left.norm()
    if after <= NOTHING_LEFT * before:
        names = ", ".join(f'"{other.name}"' for other in protected)
        raise ValueError(
            f'Nothing of "{direction.name}" would be left: it is made of {names}. Protect fewer directions, or find it '
            "from other examples."
        )
    recipe = {
        "orthogonalise": json.loads(direction.recipe),
        "span": span,
        "protected": [{"name": other.name, "recipe": json.loads(other.recipe)} for other in protected],
    }
    return replace(
        direction,
        deltas=space.deltas(left.float().reshape(own.shape)),
        timesteps=space.timesteps,
        recipe=json.dumps(recipe),
        spreads=space.spreads,
    )


def cosines(directions: Sequence[Direction]) -> Tensor:
    """`(k, k)` float64: cosine of each pair over the whole trajectory."""
    space = Space.of(directions)
    flat = torch.stack([space.vector(direction).flatten() for direction in directions]).double()
    norms = flat.norm(dim=1)
    if (norms == 0).any():
        name = directions[int((norms == 0).nonzero()[0])].name
        raise ValueError(f'Direction "{name}" is zero: it points nowhere and has no cosine.')
    unit = flat / norms.unsqueeze(1)
    table: Tensor = unit @ unit.T
    return table.clamp(-1, 1)


def _without(vector: Tensor, removed: Sequence[Tensor]) -> Tensor:
    """`vector (d,)` minus its projection onto the span of `removed`, float64, by least squares with column pivoting."""
    columns = [other.double() / other.double().norm() for other in removed if other.any()]
    if not columns:
        return vector.double()
    matrix, whole = torch.stack(columns, 1), vector.double()
    factors, *_ = lstsq(matrix.numpy(), whole.numpy(), cond=SAME, lapack_driver="gelsy")
    left: Tensor = whole - matrix @ torch.from_numpy(factors)
    return left
