"""Image-specific directions: the leading right singular vectors of J = d prediction / d h.

Haas et al. (FG 2024, arXiv 2303.11073), Sec. IV-B: the directions in h that change what a model predicts most, for one
image at one timestep; with a mask (Eq. 9), those that change one region most. J is only ever multiplied with.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]

CLEAR = 0.2
"""RMS change of a picture, in standard deviations of it, that counts as a clear edit: strength 1."""

NOTHING, SMALLEST = 1e-6, torch.finfo(torch.float32).tiny
"""Share of the largest singular value, and of any number, below which one counts as none: rounding in float32."""


@dataclass(frozen=True, eq=False)
class Jacobian:
    """A matrix known by its products alone."""

    forward: Product
    """J v, `out_shape`, of a v of `in_shape`; both float32 on the CPU."""
    transposed: Product
    """J^T u, `in_shape`, of a u of `out_shape`."""
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]

    def scaled(self, factor: float) -> "Jacobian":
        """J times a number."""
        return replace(
            self, forward=lambda v: factor * self.forward(v), transposed=lambda u: factor * self.transposed(u)
        )

    def masked(self, mask: Tensor) -> "Jacobian":
        """M J, of a mask in 0..1 that broadcasts to `out_shape` (Eq. 9)."""
        return replace(self, forward=lambda v: mask * self.forward(v), transposed=lambda u: self.transposed(mask * u))

    def without(self, basis: Tensor) -> "Jacobian":
        """J (I - B^T B), of orthonormal `basis (r, *in_shape)`: its right singular vectors are orthogonal to them."""
        rows = basis.flatten(1)

        def removed(v: Tensor) -> Tensor:
            return v - (rows.T @ (rows @ v.flatten())).reshape(v.shape)

        return replace(
            self, forward=lambda v: self.forward(removed(v)), transposed=lambda u: removed(self.transposed(u))
        )


@dataclass(frozen=True, eq=False)
class Triplets:
    """The leading singular triplets of a Jacobian, largest first."""

    right: Tensor
    """`(k, *in_shape)` float32, orthonormal; of either sign, the one that brightens the prediction."""
    values: Tensor
    """`(k,)` float64."""
    left: Tensor
    """`(k, *out_shape)` float32, J v / s: what each direction does to the prediction."""
    residuals: Tensor
    """`(k,)` float64: |J^T u - s v| / s."""
    products: tuple[int, int]
    """How often J and J^T were multiplied with."""


def leading_triplets(
    jacobian: Jacobian, k: int, *, tol: float = 1e-4, seed: int = 0, on_product: Callable[[], None] = lambda: None
) -> Triplets:
    """The `k` leading singular triplets, by Lanczos bidiagonalisation (Golub and Kahan 1965): J and J^T in turn.

    `tol` is the largest relative residual; values are known to about its square. The start vector is drawn from `seed`,
    so the result repeats exactly. `on_product` is called after every product and may raise to stop. `ValueError` for a
    k outside 1 to one less than the smaller side, for a Jacobian that gives NaN, or one of lower rank.
    """
    m, n = (int(np.prod(shape)) for shape in (jacobian.out_shape, jacobian.in_shape))
    if not 1 <= k < min(m, n):
        raise ValueError(f"Directions asked of a {m} x {n} Jacobian: got {k}, wanted 1 to {min(m, n) - 1}.")
    search = _Bidiagonalisation(jacobian, on_product, torch.Generator().manual_seed(seed))
    for size in range(1, min(m, n, 10 * k + 50) + 1):
        search.grow()
        if size >= k and (residual := float(search.leading(k).residuals.max())) <= tol:
            return search.triplets(k)
    raise ValueError(
        f"The Jacobian's directions did not settle in {sum(search.calls)} products: got a residual of {residual:.0e}, "
        f"wanted {tol:.0e}. Ask for fewer directions, or load the model in float32."
    )


class _Leading(NamedTuple):
    """The leading singular triplets of B, and what J^T adds to them beyond V."""

    left: Tensor
    values: Tensor
    right: Tensor
    residuals: Tensor


class _Bidiagonalisation:
    """J V = U B and J^T U = V B^T, of orthonormal V and U and a bidiagonal B that grow; lives for one search.

    V has a vector more than J has been multiplied with: what it adds to J^T U is the residual.
    """

    def __init__(self, jacobian: Jacobian, on_product: Callable[[], None], generator: torch.Generator):
        self.jacobian, self.on_product, self.generator = jacobian, on_product, generator
        self.calls = [0, 0]
        self.u: list[Tensor] = []
        self.v: list[Tensor] = []
        self.diagonal: list[float] = []
        self.below: list[float] = []
        self._add(self.u, torch.randn(int(np.prod(jacobian.out_shape)), generator=generator))
        self._return()

    def grow(self) -> None:
        product = self.jacobian.forward(self.v[-1].reshape(self.jacobian.in_shape))
        self.below.append(self._add(self.u, self._counted(product, 0)))
        self._return()

    def leading(self, k: int) -> _Leading:
        *diagonal, beyond = self.diagonal
        bidiagonal = torch.zeros(len(self.u), len(diagonal), dtype=torch.float64)
        bidiagonal.diagonal().copy_(torch.tensor(diagonal))
        bidiagonal.diagonal(-1).copy_(torch.tensor(self.below))
        left, values, right = torch.linalg.svd(bidiagonal, full_matrices=False)
        left, values, right = left[:, :k].T, values[:k], right[:k]
        smallest = max(NOTHING * values[0].item(), SMALLEST)
        return _Leading(left, values, right, beyond * left[:, -1].abs() / values.clamp(min=smallest))

    def triplets(self, k: int) -> Triplets:
        """The leading ones of what has been seen. `ValueError` if the rank is lower."""
        left, values, right, residuals = self.leading(k)
        rank = int((values > NOTHING * values[0]).sum())
        if rank < k:
            raise ValueError(
                f"Only {rank} directions change the prediction: wanted {k}. Ask for fewer, or widen the mask."
            )
        u, v = left.float() @ torch.stack(self.u), right.float() @ torch.stack(self.v[:-1])
        sign = torch.where(u.sum(1, keepdim=True) < 0, -1.0, 1.0)
        shapes = (k, *self.jacobian.in_shape), (k, *self.jacobian.out_shape)
        right, left = (sign * v).reshape(shapes[0]), (sign * u).reshape(shapes[1])
        return Triplets(right, values, left, residuals, (self.calls[0], self.calls[1]))

    def _return(self) -> None:
        """Multiply the newest of U with J^T."""
        product = self.jacobian.transposed(self.u[-1].reshape(self.jacobian.out_shape))
        self.diagonal.append(self._add(self.v, self._counted(product, 1)))

    def _add(self, basis: list[Tensor], vector: Tensor) -> float:
        """The norm of what is new in a vector, which joins the basis; where nothing is, a random one does."""
        norm, vector = float(vector.norm()), _beyond(basis, vector)
        new = float(vector.norm())
        if new <= NOTHING * norm:
            new, vector = 0.0, _beyond(basis, torch.randn(vector.shape, generator=self.generator))
        basis.append(vector / vector.norm())
        return new

    def _counted(self, product: Tensor, which: int) -> Tensor:
        self.calls[which] += 1
        self.on_product()
        return require_finite(product).flatten()


def require_finite(product: Tensor) -> Tensor:
    """A product with a Jacobian. `ValueError` where it has NaN or infinity."""
    if not torch.isfinite(product).all():
        raise ValueError("The model's Jacobian holds NaN or infinity: load the model in float32.")
    return product


def _beyond(basis: list[Tensor], vector: Tensor) -> Tensor:
    """What is left of a vector without the orthonormal ones of a basis; twice, for the rounding of the first time."""
    for known in (*basis, *basis):
        vector = vector - (known @ vector) * known
    return vector


def clear_norm(value: float, *, sigma: float, contrast: float, area: float, sigmas: Tensor) -> float:
    """Norm of delta that makes a clear edit when it is added to h at every step of `sigmas (steps + 1,)`.

    `value` is the direction's singular value for eps at `sigma`. A network is about equally sensitive at all timesteps
    in v = eps sqrt(1 + sigma^2); so to first order delta changes eps in inverse proportion to that root, and the
    picture by the sum of it over the steps, each times its fall of sigma. `contrast` is the picture's standard
    deviation, `area` how many of its elements the mask leaves.
    """
    reach = (-sigmas.double().diff() / (1 + sigmas[:-1].double() ** 2).sqrt()).sum().item()
    norm: float = CLEAR * contrast * area**0.5 / (value * (1 + sigma**2) ** 0.5 * reach)
    return norm
