"""Whole inversions: closed forms, the time that a step is read at, seeds, flags."""

import pytest
import torch

from graft_lightning.inversion.anderson import Anderson
from graft_lightning.inversion.automatic import Automatic
from graft_lightning.inversion.inverted_state import invert_state
from graft_lightning.inversion.newton_krylov import NewtonKrylov
from graft_lightning.inversion.result import concatenate
from graft_lightning.inversion.round_trip import from_data
from graft_lightning.inversion.solvers import FixedPoint
from graft_lightning.inversion.start import start_state
from graft_lightning.inversion.steps import FlowSteps
from graft_lightning.processes.noise import trajectory_seeds
from tests.inversion.fields import LinearField, normals, with_eigenvalues
from tests.inversion.whole import invert

SEEDS = trajectory_seeds(0, 0, [""] * 12, range(12))
GRIDS = {"uniform": 5, "uneven": [0, 0.05, 0.2, 0.5, 1]}


@pytest.mark.parametrize("method", ["euler", "heun"])
@pytest.mark.parametrize("steps", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("start_level", [0, 2])
@pytest.mark.parametrize("solver", [FixedPoint, Anderson, NewtonKrylov, Automatic])
def test_a_linear_flow_is_inverted_to_machine_precision(method, steps, start_level, solver):
    field = LinearField(with_eigenvalues([0.8, -0.5, 0.4 + 0.9j], seed=2), offset=0.3)
    x_0 = normals(12, 4)
    found = invert(field, x_0, steps, solver(tolerance=2e-15, max_iterations=300), start_level, SEEDS, method=method)
    assert found.converged.all()
    start = start_state(x_0, found.levels[start_level], SEEDS)
    exact = field.inverse(start, found.levels, start_level, method)
    torch.testing.assert_close(found.noise, exact, rtol=0, atol=2e-13)
    assert (
        found.residual.shape
        == found.iterations.shape
        == found.eta_L.shape
        == (FlowSteps(field, steps).steps - start_level, 12)
    )


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_float32_data_are_inverted_in_float64_on_demand(method):
    field = LinearField(with_eigenvalues([0.8, -0.5, 0.4 + 0.9j]))
    x_0 = normals(12, 4).float()
    single = invert(field, x_0, 5, method=method)
    double = invert(field, x_0, 5, method=method, dtype=torch.float64)
    exact = field.inverse(x_0.double(), double.levels, method=method)
    assert single.noise.dtype == torch.float32
    assert 1e-8 < (single.noise - exact).abs().max() < 1e-4
    torch.testing.assert_close(double.noise, exact, rtol=0, atol=1e-11)


def test_divergence_is_reported_by_plain_iteration_and_mended_by_the_rule():
    field = LinearField(with_eigenvalues([-9.0, 0.5, 2j]))  # eta L up to 9 x 1.5 / 4
    x_0 = normals(12, 4)
    plain = invert(field, x_0, 4, FixedPoint())
    assert not plain.converged.any()
    assert plain.noise.isnan().all()
    assert plain.usable.shape == (0, 4)
    mended = invert(field, x_0, 4)
    assert mended.converged.all()
    assert (mended.stage >= 1).all()
    torch.testing.assert_close(mended.noise, field.inverse(x_0, mended.levels), rtol=0, atol=1e-10)
    assert mended.by_step()[-1]["eta_L_max"] > 1


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_the_inverse_reads_the_velocity_at_the_forward_steps_times(method):
    field = LinearField(with_eigenvalues([0.8, -0.5]))
    flow = FlowSteps(field, 4, method)
    flow.generate(normals(1, 2))
    forward, field.times = field.times, []
    invert_state(flow, normals(3, 2))
    assert set(field.times) == set(forward) == {0.25, 0.5, 0.75, 1.0}


@pytest.mark.parametrize("shift", [-0.25, 0.25])
def test_the_index_trap_would_be_seen(shift):
    """Reading v at a neighbouring t_k solves Eq. 8 to the last digit, and does not invert the sampler."""
    field = LinearField(with_eigenvalues([0.8, -0.5]))
    wrong = invert(lambda x, t: field(x, t + shift), normals(6, 2), 4)
    assert wrong.converged.all()
    assert (from_data(FlowSteps(field, 4), wrong) > 1e-2).all()
    right = invert(field, normals(6, 2), 4)
    assert (from_data(FlowSteps(field, 4), right) < 1e-11).all()


def test_draws_depend_on_the_seed_alone():
    field = LinearField(with_eigenvalues([0.8, -0.5]))
    x_0 = normals(12, 2)
    settings = {"start_level": 1, "perturbation": 0.1}
    whole = invert(field, x_0, 4, seeds=SEEDS, **settings)
    for batch_size in (1, 5, 12, 100):
        parts = invert(field, x_0, 4, seeds=SEEDS, batch_size=batch_size, **settings)
        assert torch.equal(parts.start, whole.start)
        torch.testing.assert_close(parts.noise, whole.noise, rtol=0, atol=1e-11)
        assert torch.equal(parts.iterations, whole.iterations)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(invert(field, x_0[order], 4, seeds=SEEDS[order], **settings).start, whole.start[order])
    assert not torch.equal(invert(field, x_0, 4, seeds=SEEDS + 100, **settings).start, whole.start)


def test_the_start_is_the_data_noised_analytically():
    x_0, seeds = torch.full((4000, 3), 2.0).double(), torch.arange(4000)
    assert start_state(x_0, 0, None) is x_0
    noised = start_state(x_0, 0.25, seeds)
    torch.testing.assert_close(noised.mean(), torch.tensor(1.5).double(), rtol=0, atol=0.02)
    torch.testing.assert_close(noised.std(), torch.tensor(0.25).double(), rtol=0, atol=0.01)
    perturbed = start_state(x_0, 0, seeds, 0.1) - x_0
    torch.testing.assert_close(perturbed.std(), torch.tensor(0.1).double(), rtol=0, atol=0.005)
    # z is the same with and without the perturbation, and is not its noise
    both = start_state(x_0, 0.25, seeds, 0.1)
    torch.testing.assert_close(both, noised + 0.75 * perturbed)
    assert abs(torch.corrcoef(torch.stack([(noised - 1.5).flatten(), perturbed.flatten()]))[0, 1]) < 0.03


def folding(x, t):
    """A step 1/2 of it is x - x^2 / 2, which reaches nothing above 1/2."""
    return x.square()


def test_failed_samples_are_flagged_left_out_and_never_numbers():
    x_0 = torch.tensor([[0.1], [0.6], [0.2]]).double()
    found = invert(folding, x_0, 2)
    assert found.converged.tolist() == [True, False, True]
    assert found.noise.isnan().squeeze(1).tolist() == [False, True, False]
    assert torch.equal(found.usable, found.noise[[0, 2]])
    assert found.share == pytest.approx(2 / 3)
    assert found.residual[0, 1] > 1e-3
    assert found.residual[1, 1].isnan()
    assert found.evaluations[1, 1] == 0
    assert found.stage[1, 1] == -1
    assert [row["samples"] for row in found.by_step()] == [3, 2]
    assert found.by_step()[1]["residual_max"] <= 1e-12
    going = invert(folding, x_0, 2, keep_going=True)
    assert going.converged.tolist() == [True, False, True]
    assert going.noise.isfinite().all()
    assert torch.equal(going.noise[[0, 2]], found.noise[[0, 2]])


def test_a_sample_that_failed_once_stays_flagged():
    found = invert(
        lambda x, t: folding(x, t) * (t < 0.6).unsqueeze(1), torch.tensor([[0.1], [0.6]]).double(), 2, keep_going=True
    )
    assert (found.residual[1] <= 1e-12).all()
    assert found.converged.tolist() == [True, False]


def test_parts_of_one_inversion_join_and_others_do_not():
    x_0 = torch.tensor([[0.1], [0.6], [0.2]]).double()
    whole, first, rest = (invert(folding, part, 2) for part in (x_0, x_0[:1], x_0[1:]))
    joined = concatenate([first, rest])
    for name in ("noise", "converged", "residual", "iterations", "eta_L", "stage"):
        torch.testing.assert_close(getattr(joined, name), getattr(whole, name), equal_nan=True)
    for others in (
        [],
        [whole, invert(folding, x_0, 3)],
        [whole, invert(folding, x_0, 2, start_level=1, seeds=SEEDS[:3])],
    ):
        with pytest.raises(ValueError, match="levels, start_level"):
            concatenate(others)


def test_no_data_no_trouble():
    found = invert(folding, torch.zeros(0, 1), 2)
    assert found.noise.shape == (0, 1)
    assert found.residual.shape == (2, 0)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"start_level": 4}, "start_level=4; with 4 steps it lies between 0 and 3"),
        ({"start_level": -1}, "start_level=-1"),
        ({"start_level": 1}, "seeds are needed"),
        ({"perturbation": 0.1}, "seeds are needed"),
        ({"perturbation": -0.1}, "perturbation=-0.1"),
        ({"start_level": 1, "seeds": SEEDS[:2]}, "2 seeds for 3 samples"),
        ({"method": "rk4"}, "method='rk4'"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, word):
    with pytest.raises(ValueError, match=word):
        invert(folding, torch.zeros(3, 1), 4, **settings)


def test_a_start_at_pure_noise_is_refused():
    with pytest.raises(ValueError, match="t=1"):
        start_state(torch.zeros(1, 1), 1, SEEDS[:1])
