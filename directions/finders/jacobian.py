"""Image-specific directions: the leading right singular vectors of J = d prediction / d h.

Haas et al. (FG 2024, arXiv 2303.11073), Sec. IV-B: the directions in h that change what a model predicts most, for one
image at one timestep; with a mask (Eq. 9), those that change one region most. J is only ever multiplied with.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, svds
from threadpoolctl import ThreadpoolController
from torch import Tensor

Product = Callable[[Tensor], Tensor]

CLEAR = 0.2
"""RMS change of a picture, in standard deviations of it, that counts as a clear edit: strength 1."""


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
    """`(k,)` float64: |J^T u - s v| / s, relative."""
    products: tuple[int, int]
    """How often J and J^T were multiplied with."""


def leading_triplets(
    jacobian: Jacobian, k: int, *, tol: float = 1e-3, seed: int = 0, on_product: Callable[[], None] = lambda: None
) -> Triplets:
    """The `k` leading singular triplets, by Lanczos bidiagonalisation (PROPACK): J and J^T in turn.

    `tol` is the relative error allowed for the singular values. The start vector is drawn from `seed`, so the result
    repeats exactly. `on_product` is called after every product and may raise to stop. `ValueError` for a k outside 1
    to one less than the smaller side, for a Jacobian that gives NaN, or one of lower rank.
    """
    m, n = (int(np.prod(shape)) for shape in (jacobian.out_shape, jacobian.in_shape))
    if not 1 <= k < min(m, n):
        raise ValueError(f"Directions asked of a {m} x {n} Jacobian: got {k}, wanted 1 to {min(m, n) - 1}.")
    counted = _Counted(jacobian, on_product)
    operator = LinearOperator((m, n), matvec=counted.forward, rmatvec=counted.transposed, dtype=np.float32)
    start = np.random.default_rng(seed).standard_normal(m).astype(np.float32)
    one_thread = ThreadpoolController().select(internal_api="openblas").limit(limits=1)
    try:
        with one_thread:  # OpenBLAS's idle threads would spin on the cores that the products need: 2.5 times slower
            columns, values, rows = svds(
                operator, k, tol=tol, v0=start, solver="propack", maxiter=min(m, n, 10 * k + 50)
            )
    except np.linalg.LinAlgError as error:
        raise counted.stopped_by or ValueError(
            f"The Jacobian's directions did not settle in {sum(counted.calls)} products: got {error}. Ask for fewer "
            "directions, or load the model in float32."
        ) from error
    if counted.stopped_by:
        raise counted.stopped_by
    order = np.argsort(-values)
    left, right = torch.from_numpy(columns.T[order].copy()), torch.from_numpy(rows[order].copy())
    return _finished(counted, left, torch.from_numpy(values[order].copy()).double(), right)


def _finished(counted: "_Counted", left: Tensor, values: Tensor, right: Tensor) -> Triplets:
    """Triplets of flat vectors, with their signs and residuals."""
    if not (values > values[0] * 1e-6).all():
        raise ValueError(
            f"Only {int((values > values[0] * 1e-6).sum())} directions change the prediction: wanted {len(values)}. "
            "Ask for fewer, or widen the mask."
        )
    sign = torch.where(left.sum(1, keepdim=True) < 0, -1.0, 1.0)
    left, right = sign * left, sign * right
    images = left.reshape(-1, *counted.jacobian.out_shape)
    returned = torch.stack([counted.returned(u) for u in images]).flatten(1).double()
    residuals = (returned - values[:, None] * right.double()).norm(dim=1) / values
    calls = counted.calls[0], counted.calls[1]
    return Triplets(right.reshape(-1, *counted.jacobian.in_shape), values, images, residuals, calls)


class _Counted:
    """The products of a Jacobian, counted; lives for one search.

    PROPACK can't be left by an exception. So the first one is kept, and zeros are answered until it returns.
    """

    def __init__(self, jacobian: Jacobian, on_product: Callable[[], None]):
        self.jacobian, self.on_product = jacobian, on_product
        self.calls = [0, 0]
        self.stopped_by: BaseException | None = None

    def product(self, v: Tensor) -> Tensor:
        self.calls[0] += 1
        return self._checked(self.jacobian.forward(v))

    def returned(self, u: Tensor) -> Tensor:
        self.calls[1] += 1
        return self._checked(self.jacobian.transposed(u))

    def forward(self, v: np.ndarray) -> np.ndarray:
        return self._answer(self.product, v, self.jacobian.in_shape, self.jacobian.out_shape)

    def transposed(self, u: np.ndarray) -> np.ndarray:
        return self._answer(self.returned, u, self.jacobian.out_shape, self.jacobian.in_shape)

    def _answer(self, product: Product, flat: np.ndarray, got: tuple[int, ...], gives: tuple[int, ...]) -> np.ndarray:
        if self.stopped_by is None:
            try:
                return product(torch.from_numpy(flat.astype(np.float32).reshape(got))).flatten().numpy()
            except BaseException as error:
                self.stopped_by = error
        return np.zeros(int(np.prod(gives)), np.float32)

    def _checked(self, result: Tensor) -> Tensor:
        self.on_product()
        if not torch.isfinite(result).all():
            raise ValueError("The model's Jacobian holds NaN or infinity: load the model in float32.")
        return result


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
