"""Anderson acceleration and its least-squares problems."""

import torch

from graft_lightning.inversion.anderson import Anderson, least_squares
from graft_lightning.inversion.solvers import FixedPoint
from tests.inversion.fields import normals, with_eigenvalues


def test_a_linear_problem_is_solved_in_as_many_iterations_as_dimensions():
    matrix = with_eigenvalues([-4.0, 1.2j, 3.0])
    y = normals(10, 4)
    found = Anderson(tolerance=1e-9, depth=5).solve(lambda x: x @ matrix.T, y)
    assert found.converged.all()
    assert found.iterations.max() <= 4 + 3, "d + 1 in exact arithmetic, two more for rounding"
    exact = torch.linalg.solve(torch.eye(4).double() - matrix, y.T).T
    torch.testing.assert_close(found.x, exact, rtol=0, atol=1e-8)


def test_it_needs_fewer_iterations_than_plain_iteration_where_that_is_slow():
    matrix = with_eigenvalues([0.9, -0.8, 0.7, 0.5j, 0.3, -0.2, 0.1])
    y = normals(10, 8)
    plain, accelerated = (
        solver.solve(lambda x: x @ matrix.T, y) for solver in (FixedPoint(max_iterations=500), Anderson())
    )
    assert plain.converged.all()
    assert accelerated.converged.all()
    assert 4 * accelerated.iterations.double().mean() < plain.iterations.double().mean()


def test_least_squares_agrees_with_the_library():
    columns, target = normals(7, 3, 20), normals(7, 20, seed=1)
    expected = torch.linalg.lstsq(columns.mT, target.unsqueeze(2)).solution.squeeze(2)
    torch.testing.assert_close(least_squares(columns, target), expected, rtol=1e-10, atol=1e-10)


def test_columns_of_very_different_length_are_all_used():
    columns, target = normals(7, 3, 20), normals(7, 20, seed=1)
    scale = torch.tensor([1e-9, 1.0, 1e9]).double()
    expected = least_squares(columns, target) / scale
    torch.testing.assert_close(least_squares(columns * scale[:, None], target), expected, rtol=1e-8, atol=0)


def test_vanishing_and_repeated_columns_do_no_harm():
    columns, target = normals(4, 1, 20), normals(4, 20, seed=1)
    weights = least_squares(torch.cat([columns, torch.zeros_like(columns), columns], dim=1), target)
    assert (weights[:, 1] == 0).all()
    torch.testing.assert_close(weights[:, 0] + weights[:, 2], least_squares(columns, target)[:, 0])
