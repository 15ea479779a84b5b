"""Products with the Jacobian of what comes after a cut, which is never formed."""

import math
from collections.abc import Callable

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from ...directions import Jacobian
from .convolutions import transposable
from .derivatives import derivatives, math_attention, wide_norms
from .graph_budget import GraphBudget, TooLarge, out_of_memory_told


def jacobian_of(function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Jacobian]:
    """The value of a function there, and the products with its Jacobian.

    They hold the function's graph: `TooLarge` where memory can't, then or for a product. J^T u is a backward pass. It
    is linear in u, so J v is the backward pass of that one (measured: a fourth of the time of forward mode). Where its
    graph does not fit, forward mode takes its place.
    """
    variable = at.clone().requires_grad_()
    graph = _graph_of_both(function, variable)
    if graph is None:
        budget = GraphBudget(at.device)
        with derivatives(), budget.measured():
            out = function(variable)
        budget.require()
    else:
        out, u, pulled = graph

    def forward(v: Tensor) -> Tensor:
        if graph is None:
            return _pushed(function, at, v.to(variable))
        return torch.autograd.grad(pulled, u, v.to(variable), retain_graph=True)[0]

    def transposed(w: Tensor) -> Tensor:
        return torch.autograd.grad(out, variable, w.to(out), retain_graph=True)[0]

    products = map(_at_size_one, (forward, transposed))
    return out.detach(), Jacobian(*products, tuple(at.shape), tuple(out.shape))


def _at_size_one(product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same linear product, made of numbers about 1: of smaller ones half precision loses what is on the way."""

    def of(vector: Tensor) -> Tensor:
        size = 2.0 ** -math.frexp(float(vector.norm()) / vector.numel() ** 0.5)[1]
        with out_of_memory_told():
            return product(size * vector).float().cpu() / size

    return of


def _graph_of_both(function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """The output, a cotangent u, and J^T u; None where its graph does not fit, of which nothing is left then."""
    budget = GraphBudget(at.device)
    try:
        with derivatives(), budget.measured(), math_attention(), wide_norms(), transposable():
            out = function(at)
            budget.require()
            u = torch.zeros_like(out).requires_grad_()
            pulled = torch.autograd.grad(out, at, u, create_graph=True)[0]
            budget.require()
    except TooLarge:
        return None
    return out, u, pulled


def _pushed(function: Callable[[Tensor], Tensor], at: Tensor, v: Tensor) -> Tensor:
    """J v by forward mode, which keeps no graph."""
    with derivatives(), torch.no_grad(), math_attention(), wide_norms(), forward_ad.dual_level():
        tangent: Tensor = forward_ad.unpack_dual(function(forward_ad.make_dual(at, v))).tangent
        return tangent
