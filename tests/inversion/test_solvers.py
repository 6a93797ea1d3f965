"""The fixed-point iteration: its contraction, its divergence, and what is kept of each sample."""

import math

import pytest
import torch

from graft_lightning.inversion.anderson import Anderson
from graft_lightning.inversion.automatic import Automatic
from graft_lightning.inversion.newton_krylov import NewtonKrylov
from graft_lightning.inversion.solvers import FixedPoint, root_mean_square
from tests.inversion.fields import normals, with_eigenvalues

SOLVERS = [FixedPoint, Anderson, NewtonKrylov, Automatic]


def linear(matrix):
    return lambda x: x @ matrix.T


def square(x):
    """``x = y + x^2`` has solutions for y <= 1/4 only; the smaller one attracts."""
    return x.square()


@pytest.mark.parametrize("eta_L", [0.1, 0.5, 0.9])
def test_plain_iteration_respects_the_contraction_bound(eta_L):
    matrix = normals(6, 6)
    matrix *= eta_L / torch.linalg.matrix_norm(matrix, 2)
    y = normals(8, 6, seed=1)
    exact = torch.linalg.solve(torch.eye(6).double() - matrix, y.T).T
    first = torch.linalg.vector_norm(y @ matrix.T, dim=1)
    for iterations in (1, 2, 5, 10):
        found = FixedPoint(tolerance=1e-15, max_iterations=iterations).solve(linear(matrix), y)
        error = torch.linalg.vector_norm(found.x - exact, dim=1)
        assert (error <= eta_L ** (iterations - 1) / (1 - eta_L) * first + 1e-14).all()
    found = FixedPoint(tolerance=1e-9, max_iterations=1000).solve(linear(matrix), y)
    assert found.converged.all()
    enough = 1 + math.ceil(math.log(1e-9 / root_mean_square(y @ matrix.T).max()) / math.log(eta_L))
    assert found.iterations.max() <= enough
    assert (found.eta_L <= eta_L + 1e-9).all()


def test_the_free_estimate_finds_the_rate_of_a_normal_matrix():
    matrix = with_eigenvalues([0.6, 0.3, -0.2])
    found = FixedPoint(max_iterations=200).solve(linear(matrix), normals(16, 3))
    torch.testing.assert_close(found.eta_L, torch.full((16,), 0.6).double(), rtol=1e-3, atol=0)


def test_plain_iteration_diverges_above_one_and_says_so():
    matrix = with_eigenvalues([-1.5, 0.2])
    y = normals(8, 2)
    plain = FixedPoint(max_iterations=200).solve(linear(matrix), y)
    assert not plain.converged.any()
    assert (plain.iterations < 50).all(), "a diverging sample is not iterated to the cap"
    found = root_mean_square(y + plain.x @ matrix.T - plain.x) / root_mean_square(y).clamp_min(1)
    torch.testing.assert_close(found, plain.residual, msg="the best iterate is kept, not the last")
    torch.testing.assert_close(plain.eta_L, torch.full((8,), 1.5).double(), rtol=0.05, atol=0)


@pytest.mark.parametrize("eigenvalue", [-1.0, -2.5])
def test_damping_ends_a_cycle(eigenvalue):
    matrix = with_eigenvalues([eigenvalue, 0.5])
    y = normals(4, 2)
    assert not FixedPoint(max_iterations=500).solve(linear(matrix), y).converged.any()
    damped = FixedPoint(max_iterations=500, damping=0.5).solve(linear(matrix), y)
    assert damped.converged.all()
    torch.testing.assert_close(damped.x, torch.linalg.solve(torch.eye(2).double() - matrix, y.T).T)


def test_the_residual_is_the_error_of_the_forward_step():
    y = 3 * normals(5, 4)
    found = FixedPoint(max_iterations=3).solve(torch.sin, y)
    step = found.x - torch.sin(found.x)
    scale = root_mean_square(y).clamp_min(1)
    torch.testing.assert_close(found.residual, root_mean_square(y - step) / scale)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_sample_is_flagged_for_itself(solver):
    y = torch.tensor([[0.0], [0.1], [1.0], [0.2], [torch.nan], [2.0]]).double()
    found = solver(tolerance=1e-10).solve(square, y)
    solvable = torch.tensor([True, True, False, True, False, False])
    assert found.converged.tolist() == solvable.tolist()
    assert (found.residual[solvable] <= 1e-10).all()
    assert (found.residual[~solvable] > 1e-10).all()
    exact = 0.5 - (0.25 - y[solvable]).sqrt()
    torch.testing.assert_close(found.x[solvable], exact, rtol=1e-8, atol=1e-9)
    assert found.iterations[0] == 1, "nothing to do for y = 0"
    assert found.iterations[1] < found.iterations[3], "0.2 lies closer to the fold than 0.1"


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_sample_is_solved_alone_as_in_company(solver):
    y = normals(6, 5)
    matrix = with_eigenvalues([0.8j, -0.7, 0.4, 0.1])

    def increment(x):
        return torch.sin(x @ matrix.T)

    together = solver().solve(increment, y)
    assert together.converged.all()
    for row in range(6):
        alone = solver().solve(increment, y[row : row + 1])
        torch.testing.assert_close(alone.x[0], together.x[row], rtol=0, atol=1e-11)
        assert alone.iterations[0] == together.iterations[row]


@pytest.mark.parametrize("solver", [FixedPoint, Anderson, Automatic])
def test_only_open_samples_are_evaluated(solver):
    sizes = []

    def increment(x):
        sizes.append(len(x))
        return square(x)

    found = solver(tolerance=1e-10).solve(increment, torch.tensor([[0.0], [0.1], [0.2]]).double())
    assert found.evaluations.sum() == sum(sizes)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_samples_no_trouble(solver):
    found = solver().solve(square, torch.zeros(0, 3))
    assert found.x.shape == (0, 3)
    assert found.converged.shape == (0,)


@pytest.mark.parametrize("solver", SOLVERS)
def test_float32_converges_to_its_own_rounding(solver):
    y = normals(16, 5, dtype=torch.float32)
    matrix = with_eigenvalues([0.5, -0.4, 0.3, 0.2, 0.1]).float()
    found = solver().solve(linear(matrix), y)
    assert found.x.dtype == torch.float32
    assert found.converged.all()
    torch.testing.assert_close(found.x, torch.linalg.solve(torch.eye(5) - matrix, y.T).T, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: FixedPoint(tolerance=0), "tolerance=0"),
        (lambda: FixedPoint(max_iterations=0), "max_iterations=0"),
        (lambda: FixedPoint(damping=0), "damping=0"),
        (lambda: FixedPoint(damping=1.5), "damping=1.5"),
        (lambda: Anderson(depth=0), "depth=0"),
        (lambda: Anderson(growth=1), "growth=1"),
        (lambda: NewtonKrylov(krylov=0), "krylov=0"),
        (lambda: NewtonKrylov(forcing=1), "forcing=1"),
        (lambda: NewtonKrylov(halvings=-1), "halvings=-1"),
        (lambda: Automatic(rate=2), "rate=2"),
        (lambda: Automatic(stall=0), "stall=0"),
    ],
)
def test_settings_out_of_range_are_named(make, word):
    with pytest.raises(ValueError, match=word):
        make()


def test_the_first_iterate_is_the_one_that_is_given():
    """From the solution of x = y + x / 2 one look is enough."""
    y = normals(4, 3)
    from_solution, from_y = (FixedPoint().solve(lambda x: x / 2, y, initial) for initial in (2 * y, None))
    assert from_solution.iterations.tolist() == [1] * 4
    assert (from_y.iterations > 20).all()
    torch.testing.assert_close(from_y.x, 2 * y)
