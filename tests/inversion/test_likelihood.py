"""Eq. 9 against closed forms, and the density of a step map against brute force."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from graft_lightning.inversion.gaussian import GaussianCorrector
from graft_lightning.inversion.likelihood import (
    likelihood_gain,
    map_log_density,
    standard_normal_log_density,
)
from graft_lightning.inversion.steps import FlowSteps
from tests.inversion.fields import LinearField, normals, with_eigenvalues
from tests.inversion.whole import invert


def bend(x, t):
    """A curved velocity whose few steps are one-to-one."""
    return 0.5 * torch.sin(2 * x + t.reshape(-1, 1)) + 0.3 * x.flip(1)


def test_the_gain_of_a_known_gaussian_is_its_divergence():
    mean, variance = torch.tensor([0.5, -0.2, 0.0]).double(), torch.tensor([2.0, 0.6, 1.0]).double()
    corrector = GaussianCorrector(mean, with_eigenvalues([1.0, -1.0, 1.0]), variance)
    z = corrector(normals(40000, 3))
    gain = likelihood_gain(corrector.log_density(z), z)
    distribution = MultivariateNormal(mean, corrector.directions @ variance.diag() @ corrector.directions.T)
    standard = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    exact = torch.distributions.kl_divergence(distribution, standard).item() / (3 * math.log(2))
    assert exact > 0.1
    assert abs(gain.mean - exact) < 4 * gain.standard_error
    assert gain.standard_error < 0.01 * exact * 3
    assert gain.interval[0] < gain.mean < gain.interval[1]
    assert corrector.divergence().item() / (3 * math.log(2)) == pytest.approx(exact)


def test_the_interval_of_few_samples_is_students():
    """Gains of 1, 2 and 3 bits in one dimension, one unknown: mean 2, standard error 1/sqrt(3), t(2) = 4.3027."""
    z = torch.zeros(4, 1, dtype=torch.float64)
    bits = torch.tensor([1.0, 2.0, 3.0, 9.0], dtype=torch.float64)
    density = standard_normal_log_density(z) + bits * math.log(2)
    gain = likelihood_gain(density, z, torch.tensor([True, True, True, False]))
    half = 4.302653 / math.sqrt(3)
    assert gain.interval == pytest.approx((2 - half, 2 + half))
    assert all(map(math.isnan, likelihood_gain(density[:1], z[:1]).interval))


def test_the_gain_is_that_of_the_data_since_the_flow_cancels():
    """Linear flow: the density of the data with and without corrector is known, and so is their difference."""
    field = LinearField(with_eigenvalues([0.8, -0.5, 0.3]))
    x = normals(50, 3, seed=3) * 0.7 + 0.2
    found = invert(field, x, 4)
    corrector = GaussianCorrector.fit(found.noise)
    whole = torch.eye(3).double()
    for k in (4, 3, 2, 1):
        whole = field.step(found.levels, k, "euler")[0] @ whole
    root = (corrector(torch.eye(3).double()) - corrector.mean).T
    without = MultivariateNormal(torch.zeros(3).double(), whole @ whole.T)
    corrected = MultivariateNormal(whole @ corrector.mean, whole @ root @ root.T @ whole.T)
    exact = (corrected.log_prob(x) - without.log_prob(x)) / (3 * math.log(2))
    gain = likelihood_gain(corrector.log_density(found.noise), found.noise, found.converged, dequantised=True)
    torch.testing.assert_close(gain.gain, exact)
    assert gain.mean > 0
    assert gain.claim == "gain in likelihood of the data"


def test_unknown_samples_are_left_out_and_the_claim_says_so():
    z = normals(4, 2)
    z[1] = torch.nan
    log_density = standard_normal_log_density(z) + torch.tensor([1.0, 1.0, 2.0, 50.0]).double()
    gain = likelihood_gain(log_density, z, torch.tensor([True, True, True, False]), start=0.2)
    assert gain.mean == pytest.approx(1.5 / (2 * math.log(2)))
    assert gain.standard_error == pytest.approx(0.5 / (2 * math.log(2)))
    assert gain.share == 0.5
    assert gain.gain.isnan().tolist() == [False, True, False, True]
    assert (
        gain.claim
        == "gain at t = 0.2, over 50.0% of the samples: where the inversion converged and the density is known"
    )
    assert "not a likelihood" in likelihood_gain(log_density[2:], z[2:]).claim
    assert math.isnan(likelihood_gain(log_density[1:2], z[1:2]).mean)


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_the_maps_density_in_one_dimension_is_the_slope_of_its_inverse(method):
    flow = FlowSteps(bend, 3, method)
    z = torch.linspace(-3, 3, 20001).double().unsqueeze(1)
    x = flow.generate(z).squeeze(1)
    assert (x.diff() > 0).all(), "one-to-one"
    middle, slope = (x[1:] + x[:-1]) / 2, x.diff() / z.squeeze(1).diff()
    brute = standard_normal_log_density((z[1:] + z[:-1]) / 2) - slope.log()
    found = map_log_density(flow, middle[::500].unsqueeze(1))
    assert found.known.all()
    torch.testing.assert_close(found.log_density, brute[::500], rtol=0, atol=1e-5)


def test_the_maps_density_in_two_dimensions_matches_its_histogram():
    flow = FlowSteps(bend, 3)
    side = torch.linspace(-6, 6, 81).double()
    grid = torch.cartesian_prod(side, side)
    found = map_log_density(flow, grid, batch_size=1000)
    assert found.known.all()
    density = found.log_density.exp()
    cell = (side[1] - side[0]).item() ** 2
    assert density.sum().item() * cell == pytest.approx(1, abs=1e-4)
    # first and second moments against draws
    draws = flow.generate(normals(200000, 2))
    mean = (density.unsqueeze(1) * grid).sum(0) * cell
    torch.testing.assert_close(draws.mean(0), mean, rtol=0, atol=0.02)
    second = (grid.T * density) @ grid * cell
    torch.testing.assert_close(draws.T @ draws / len(draws), second, rtol=0, atol=0.03)
    # and the probability of a corner of the plane
    corner = (density * ((grid > side[44]).all(1) + 0.5 * (grid == side[44]).any(1) * (grid >= side[44]).all(1))).sum()
    share = (draws > side[44]).all(1).double().mean()
    assert corner.item() * cell == pytest.approx(share.item(), abs=0.005)


def test_samples_without_a_pre_image_and_folds_are_not_known():
    fold = FlowSteps(lambda x, t: x.square(), 1)  # x - x^2: nothing above 1/4, two pre-images below
    found = map_log_density(fold, torch.tensor([[0.2], [1.0], [torch.nan]]).double())
    assert found.converged.tolist() == [True, False, False]
    assert found.log_density.isnan().tolist() == [False, True, True]
    nothing = map_log_density(FlowSteps(lambda x, t: x.square() * t[0], 1), torch.tensor([[1.0], [2.0]]).double())
    assert nothing.log_density.isnan().all()
    mirror = FlowSteps(lambda x, t: 3 * x, 1)  # -2 x turns the line round
    turned = map_log_density(mirror, torch.tensor([[0.5]]).double())
    assert turned.converged.all()
    assert turned.folded.all()
    assert not turned.known.any()


def sine(c):
    """One step z - c sin z: it contracts for c < 1 and folds beyond."""
    return FlowSteps(lambda x, t: c * torch.sin(x), 1)


def density_by_all_pre_images(c, x):
    z = torch.linspace(-12, 12, 400_001).double()
    image = z - c * torch.sin(z)
    total = torch.zeros(len(x)).double()
    for row, value in enumerate(x.flatten()):
        at = ((image[1:] - value) * (image[:-1] - value) <= 0).nonzero().squeeze(1)
        total[row] = (standard_normal_log_density(z[at, None]).exp() / (1 - c * z[at].cos()).abs()).sum()
    return total.log()


def test_a_map_that_folds_is_not_known_anywhere():
    """At c = 3 a third of the samples look innocent, each by itself, and most of those are wrong by > .1 nat."""
    x = sine(3.0).generate(normals(300, 1))
    found = map_log_density(sine(3.0), x)
    innocent = found.converged & ~found.folded
    wrong = (found.log_density - density_by_all_pre_images(3.0, x)).abs() > 0.1
    assert innocent.double().mean() > 0.2
    assert wrong[innocent].double().mean() > 0.5
    assert not found.known.any()
    assert not found.one_to_one
    assert found.eta_L == pytest.approx(torch.tensor([3.0]), rel=0.01)


def test_a_fold_is_seen_by_a_sample_that_does_not_stand_there():
    x = sine(3.0).generate(torch.tensor([[torch.pi / 2]]).double())  # cos z = 0: locally the identity
    for rows in (x, x.expand(3, 1)):
        found = map_log_density(sine(3.0), rows, batch_size=2)
        assert not found.known.any()
    late = FlowSteps(lambda x, t: 9 * torch.sin(x) * (t < 0.5)[:, None], 3)  # of three steps the last alone folds
    found = map_log_density(late, x)
    assert found.eta_L.tolist() == [pytest.approx(3.0, rel=0.01), 0, 0]
    assert not found.known.any()


@pytest.mark.parametrize("c", [-0.8, 0.5, 0.9])
def test_a_map_that_contracts_is_known_and_right(c):
    x = sine(c).generate(normals(100, 1))
    found = map_log_density(sine(c), x)
    assert found.known.all()
    assert found.eta_L == pytest.approx(torch.tensor([abs(c)]), rel=0.01)
    torch.testing.assert_close(found.log_density, density_by_all_pre_images(c, x), rtol=0, atol=1e-3)


def test_the_maps_density_is_taken_at_the_steps_own_times():
    """v = t x: step k multiplies by 1 - t_k / K; at midpoints the determinant would be another."""
    found = map_log_density(FlowSteps(lambda x, t: t[:, None].to(x) * x, 2), torch.tensor([[0.3]]).double())
    scale = (1 - 0.5 * 1.0) * (1 - 0.5 * 0.5)
    expected = standard_normal_log_density(torch.tensor([[0.3 / scale]]).double()) - math.log(scale)
    torch.testing.assert_close(found.log_density, expected)
    assert found.eta_L.tolist() == pytest.approx([0.25, 0.5])


def test_densities_are_computed_where_gradients_are_off():
    x = normals(4, 2)
    flow = FlowSteps(bend, 3)
    expected = map_log_density(flow, x).log_density
    with torch.inference_mode():
        x = normals(4, 2)
        found = map_log_density(flow, x).log_density
    torch.testing.assert_close(found.clone(), expected)


def test_a_velocity_without_gradient_is_an_error_and_not_the_identity():
    with pytest.raises(RuntimeError, match="carries no gradient"):
        map_log_density(FlowSteps(torch.no_grad()(bend), 3), normals(2, 2))


def test_the_interval_of_a_gain_is_95_percent():
    gain = likelihood_gain(
        standard_normal_log_density(normals(2, 1)) + torch.tensor([0.0, 2.0]).double() * math.log(2), normals(2, 1)
    )
    assert (gain.mean, gain.standard_error) == (pytest.approx(1), pytest.approx(1))
    assert gain.interval == pytest.approx((1 - 12.7062, 1 + 12.7062), rel=1e-4)  # Student's t, one degree of freedom
