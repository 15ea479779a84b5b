"""Learn a direction from what two prompts change in a prediction, at several sites at once.

The objective is that of concept sliders (Gandikota et al., ECCV 2024, arXiv 2311.12092, Eq. 8). What is added to h acts
on the prediction nearly linearly, so it is solved instead of descended: by least squares, of which the first few
iterations are taken (Golub-Kahan, by scipy's LSMR), as what the later ones add is particular to the pictures seen.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, lsmr
from torch import Tensor

from .jacobian import Jacobian, Product, require_finite


@dataclass(frozen=True)
class SiteVector:
    """The deltas of several sites as one vector, each in units of how much h varies there."""

    shapes: Mapping[str, tuple[int, ...]]
    scales: Mapping[str, float]

    def __len__(self) -> int:
        return sum(map(math.prod, self.shapes.values()))

    def deltas(self, vector: Tensor) -> dict[str, Tensor]:
        """`(..., c, h, w)` by site of a vector `(..., d)`."""
        parts = torch.split(vector, [math.prod(shape) for shape in self.shapes.values()], -1)
        return {
            site: part.reshape(*part.shape[:-1], *shape) * self.scales[site]
            for (site, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


def least_squares_step(
    jacobian: Jacobian, missing: Tensor, iterations: int, on_product: Callable[[], None] = lambda: None
) -> Tensor:
    """`in_shape`: what, added to where `jacobian` is taken, makes about the difference `missing`, of `out_shape`.

    `ValueError` for a Jacobian that gives NaN or infinity.
    """

    def product(multiply: Product, shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
        def of(values: np.ndarray) -> np.ndarray:
            on_product()
            multiplied = require_finite(multiply(torch.from_numpy(values).float().reshape(shape)))
            found: np.ndarray = multiplied.flatten().double().numpy()
            return found

        return of

    operator = LinearOperator(
        (missing.numel(), math.prod(jacobian.in_shape)),
        matvec=product(jacobian.forward, jacobian.in_shape),
        rmatvec=product(jacobian.transposed, jacobian.out_shape),
        dtype=float,
    )
    solution = lsmr(operator, missing.flatten().double().numpy(), maxiter=iterations, atol=0, btol=0, conlim=0)[0]
    return torch.from_numpy(solution).float().reshape(jacobian.in_shape)
