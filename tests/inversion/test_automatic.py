"""The rule that picks a solver, sample by sample."""

from types import SimpleNamespace

import torch

from graft_lightning.inversion.automatic import Automatic, _Stalled
from graft_lightning.inversion.solvers import FixedPoint
from tests.inversion.fields import normals, with_eigenvalues


def solved(eigenvalues, seed=1, **settings):
    matrix = with_eigenvalues(eigenvalues)
    y = normals(12, len(matrix), seed=seed)
    found = Automatic(**settings).solve(lambda x: x @ matrix.T, y)
    exact = torch.linalg.solve(torch.eye(len(matrix)).double() - matrix, y.T).T
    return found, (found.x - exact).abs().max()


def test_a_strong_contraction_is_left_to_plain_iteration():
    found, error = solved([0.1, -0.15, 0.1j])
    assert found.converged.all()
    assert error < 1e-11
    assert (found.stage == 0).all()


def test_divergence_is_detected_and_mended_by_anderson():
    eigenvalues = [-1.5, 0.3, -0.8]
    matrix, y = with_eigenvalues(eigenvalues), normals(12, 3, seed=1)
    assert not FixedPoint().solve(lambda x: x @ matrix.T, y).converged.any()
    found, error = solved(eigenvalues)
    assert found.converged.all()
    assert error < 1e-10
    assert (found.stage == 1).all()
    assert (found.eta_L > 1).all()


def test_what_stalls_under_anderson_goes_to_newton():
    """Sixty eigenvalues on both sides of 1 are too many for a history of five."""
    eigenvalues = [*torch.linspace(-6, 0.5, 45).tolist(), *torch.linspace(1.5, 5, 15).tolist()]
    found, error = solved(eigenvalues, krylov=60)
    assert found.converged.all()
    assert error < 1e-8
    assert (found.stage == 2).all()
    without, _ = solved(eigenvalues, newton_iterations=0)
    assert not without.converged.any()
    assert (without.stage == 1).all()


def test_samples_of_one_batch_end_with_different_solvers():
    def increment(x):
        """Slope 0.1 up to 1, -1.5 beyond."""
        return torch.where(x < 1, 0.1 * x, 0.1 - 1.5 * (x - 1))

    y = torch.tensor([[0.2], [3.0], [0.5]]).double()
    found = Automatic().solve(increment, y)
    assert found.converged.all()
    assert found.stage.tolist() == [0, 1, 0]
    torch.testing.assert_close(found.x, torch.tensor([[0.2 / 0.9], [4.6 / 2.5], [0.5 / 0.9]]).double())


def test_a_singular_step_is_flagged_and_not_chased_for_ever():
    """1 is an eigenvalue: the step is a projection and has no inverse."""
    found, _ = solved([1.0, 0.5, 0.2])
    assert not found.converged.any()
    assert found.evaluations.max() < 200


def test_counts_add_up_over_the_solvers():
    calls = 0
    matrix = with_eigenvalues(torch.linspace(1.5, 9, 20).tolist())

    def increment(x):
        nonlocal calls
        calls += len(x)
        return x @ matrix.T

    y = normals(3, 20)
    found = Automatic(depth=2, stall=3).solve(increment, y)
    assert found.converged.all()
    assert (found.stage == 2).all()
    assert (found.iterations > 4).all()
    # products with the derivative count, but do not call the function
    assert calls < found.evaluations.sum()


def test_a_sample_has_stalled_where_its_residual_has_not_halved():
    """In two iterations: from 1 to .6 it has stalled, to .4 it has not; before two have passed nothing is said."""
    progress = SimpleNamespace(open=torch.arange(3), residual=torch.tensor([1.0, 1.0, 1.0]))
    stalled = _Stalled(2)
    assert not stalled(progress, None).any()
    progress.residual = torch.tensor([0.9, 0.9, 0.9])
    assert not stalled(progress, None).any()
    progress.residual = torch.tensor([0.6, 0.4, 0.5])
    assert stalled(progress, None).tolist() == [True, False, True]
