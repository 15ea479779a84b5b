"""What the Jacobian's search is measured against: the power iteration that Haas et al. published, written anew.

The function is the one in renhaa/semantic-diffusion, of which nothing is copied here.
"""

import math

import torch


def power_iteration(predict, h, k: int, start, tol: float = 1e-5, iterations: int = 50):
    """The function that the authors of the paper published, with its stopping rule, written anew from its description.

    One left vector u after another, orthogonal to those before: u becomes J J^T u over its norm, the eigenvalue. Once
    that has changed by less than `tol` eleven times in all, or after `iterations`, the vector is done. The first begins
    at `start`, each later one where the one before it ended. Gives the singular values `(k,)`, the right singular
    vectors `(k, *h.shape[1:])`, and how many products (J v and J^T u) each took.
    """
    h = h.detach().requires_grad_()
    found, u = [], start
    for _ in range(k):
        before = torch.stack([other for other, *_ in found], 1) if found else u.new_zeros(len(u), 0)
        u, value, v, products = _leading(predict, h, u, before, tol, iterations)
        found.append((u, value, v, products))
    _, values, rights, products = zip(*found, strict=True)
    return list(values), torch.cat(rights), list(products)


def _leading(predict, h, u, before, tol: float, iterations: int):
    """J^T u goes back through the graph of one run of `predict`; J v runs it anew, in forward mode."""
    out = predict(h).flatten()
    back = before @ (before.T @ before).inverse()
    eigenvalue, settled, products = math.inf, 0, 0
    while settled < 11 and products < 2 * iterations:
        (v,) = torch.autograd.grad(out, h, u, retain_graph=True)
        u = torch.func.jvp(predict, (h.detach(),), (v,))[1].flatten()
        u = u - back @ (before.T @ u)
        last, eigenvalue = eigenvalue, u.square().sum().sqrt().item()
        u, settled, products = u / eigenvalue, settled + (abs(eigenvalue - last) < tol), products + 2
    return u, eigenvalue**0.5, v / eigenvalue**0.5, products
