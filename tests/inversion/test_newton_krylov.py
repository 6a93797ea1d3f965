"""GMRES by sample, and Newton's method on top of it."""

import pytest
import torch

from graft_lightning.inversion.newton_krylov import NewtonKrylov, gmres
from tests.inversion.fields import normals, with_eigenvalues


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gmres_solves_every_sample_of_a_batch_its_own_system(dtype):
    matrices, right = normals(5, 8, 8).to(dtype), normals(5, 8, seed=1).to(dtype)
    found = gmres(lambda z: torch.einsum("bij,bj->bi", matrices, z), right, 8, forcing=1e-12)
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(found, torch.linalg.solve(matrices, right), rtol=tolerance, atol=tolerance)


def test_gmres_minimises_the_residual_over_the_krylov_space():
    matrix, right = normals(9, 9), normals(1, 9, seed=1)
    found = gmres(lambda z: z @ matrix.T, right, 3, forcing=1e-12)
    space = torch.stack([right[0], matrix @ right[0], matrix @ matrix @ right[0]], dim=1)
    best = space @ torch.linalg.lstsq(matrix @ space, right[0].unsqueeze(1)).solution
    torch.testing.assert_close(found[0], best.squeeze(1))


def test_gmres_stops_at_its_forcing():
    calls = []
    matrix, right = torch.eye(50).double() + 0.1 * normals(50, 50) / 50**0.5, normals(4, 50, seed=1)
    found = gmres(lambda z: calls.append(1) or z @ matrix.T, right, 40, forcing=0.05)
    residual = torch.linalg.vector_norm(found @ matrix.T - right, dim=1) / torch.linalg.vector_norm(right, dim=1)
    assert len(calls) < 6
    assert (residual <= 0.05).all()


def test_gmres_survives_an_exhausted_space_and_a_vanishing_right_side():
    right = torch.stack([normals(6), torch.zeros(6).double()])
    found = gmres(lambda z: 2 * z, right, 6, forcing=1e-14)
    torch.testing.assert_close(found, right / 2)


def test_newton_needs_no_contraction():
    """Eigenvalues on both sides of 1, where neither damping nor its sign can help."""
    matrix = with_eigenvalues([5.0, 3.0, -4.0, 0.5, 6j])
    y = normals(8, 6)
    found = NewtonKrylov().solve(lambda x: x @ matrix.T, y)
    assert found.converged.all()
    torch.testing.assert_close(found.x, torch.linalg.solve(torch.eye(6).double() - matrix, y.T).T)


def test_newton_converges_superlinearly_on_a_curved_problem():
    matrix = with_eigenvalues([3.0, -4.0, 2j])

    def increment(x):
        return x @ matrix.T + 0.2 * torch.tanh(x)

    x = normals(6, 4)
    found = NewtonKrylov(tolerance=1e-11, forcing=1e-6).solve(increment, x - increment(x))
    assert found.converged.all()
    assert found.iterations.max() <= 8
    torch.testing.assert_close(found.x, x, rtol=0, atol=1e-9)


def test_the_line_search_saves_a_step_that_is_too_long():
    """Newton's method on arctan diverges from afar without it."""

    def increment(x):
        return x - torch.atan(x)

    start = torch.full((1, 1), 20.0).double()
    target = torch.zeros(1, 1).double()
    searched = NewtonKrylov(halvings=8).solve(increment, target, start)
    assert searched.converged.all()
    assert not NewtonKrylov(halvings=0).solve(increment, target, start).converged.any()
