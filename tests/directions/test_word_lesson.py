"""What a direction is taught by words, at several sites as one vector, by least squares."""

import pytest
import torch

from directions import Jacobian, SiteVector, least_squares_step


def normal(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_a_vector_is_the_deltas_of_its_sites_in_their_units():
    vector = SiteVector({"middle": (2, 1, 1), "output.3": (1, 2, 2)}, {"middle": 3.0, "output.3": 0.5})
    assert len(vector) == 6
    deltas = vector.deltas(torch.arange(6.0))
    assert deltas["middle"].tolist() == [[[0.0]], [[3.0]]]
    assert deltas["output.3"].tolist() == [[[1.0, 1.5], [2.0, 2.5]]]


def test_enough_iterations_solve_least_squares():
    matrix, missing = normal(40, 12, seed=1), normal(5, 8, seed=2)
    jacobian = Jacobian(
        lambda v: (matrix @ v.flatten()).reshape(5, 8), lambda u: (matrix.T @ u.flatten()).reshape(3, 4), (3, 4), (5, 8)
    )  # fmt: skip
    solved = [least_squares_step(jacobian, missing, iterations) for iterations in (1, 3, 12)]
    exact = torch.linalg.lstsq(matrix, missing.flatten()[:, None]).solution.reshape(3, 4)
    assert torch.allclose(solved[-1], exact, atol=1e-5)  # float32 products
    left = [float((jacobian.forward(found) - missing).norm()) for found in solved]
    assert left == sorted(left, reverse=True)


def test_a_jacobian_that_gives_nan_is_refused():
    broken = Jacobian(lambda v: v * torch.nan, lambda u: u, (3,), (3,))
    with pytest.raises(ValueError, match="NaN or infinity: load the model in float32"):
        least_squares_step(broken, normal(3), 2)
