"""Round trips, on closed forms and on real digits under the exact flow of a mixture of Gaussians."""

import pytest
import torch

from graft_lightning.inversion.distance import norm_ratio
from graft_lightning.inversion.round_trip import from_data, from_noise, relative_error, summary
from graft_lightning.inversion.solvers import FixedPoint
from graft_lightning.inversion.steps import FlowSteps
from tests.inversion.fields import LinearField, MixtureFlow, normals, real_digits, with_eigenvalues
from tests.inversion.whole import invert


@pytest.fixture(scope="module")
def digits():
    """32 digits in float32, held out from the mixture that defines the flow."""
    images, labels = real_digits()
    return MixtureFlow.of_digits(images[:1297], labels[:1297]), images[1297:1329].float()


@pytest.mark.parametrize(("method", "steps", "start_level"), [("euler", 6, 1), ("euler", 20, 0), ("heun", 10, 1)])
def test_real_digits_make_both_round_trips(digits, method, steps, start_level):
    velocity, x_0 = digits
    flow = FlowSteps(velocity, steps, method)
    found = invert(velocity, x_0, steps, start_level=start_level, seeds=torch.arange(len(x_0)), method=method)
    assert found.share > 0.9
    there = summary(from_data(flow, found), found.converged)
    assert there["median"] <= 1e-5
    assert there["max"] <= 1e-3
    error, back = from_noise(flow, normals(*x_0.shape, dtype=torch.float32), start_level)
    assert summary(error, back.converged)["median"] <= 1e-4


def test_the_first_step_inflates_the_noise_of_sharp_data_and_a_start_level_does_not():
    """For data of standard deviation 0.01, the sampler's last step, from t = 0.1, shrinks all to a hundredth."""
    velocity = MixtureFlow(torch.zeros(1, 4), 1e-4 * torch.eye(4).unsqueeze(0), torch.ones(1))
    x_0 = 0.01 * normals(400, 4)
    settings = {"seeds": torch.arange(400)}
    from_the_data, from_the_first_level = (invert(velocity, x_0, 10, start_level=m, **settings) for m in (0, 1))
    assert from_the_data.share == from_the_first_level.share == 1
    assert norm_ratio(from_the_data.noise).mean() > 50
    torch.testing.assert_close(
        norm_ratio(from_the_first_level.noise).mean(), torch.tensor(1.0).double(), rtol=0, atol=0.1
    )
    assert from_the_data.by_step()[0]["eta_L_median"] > 0.95


def test_an_inversion_that_is_off_is_seen():
    field = LinearField(with_eigenvalues([0.8, -0.5]))
    flow = FlowSteps(field, 4)
    x = normals(6, 2)
    sloppy = invert(field, x, 4, FixedPoint(max_iterations=2), keep_going=True)
    assert not sloppy.converged.any()
    assert (from_data(flow, sloppy) > 1e-4).all()
    error, back = from_noise(flow, x, solver=FixedPoint(max_iterations=2))
    assert error.isnan().all()
    assert not back.converged.any()


def test_the_relative_error_and_its_summary():
    true, found = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[3.0, 4.5], [torch.nan, 0.0]])
    error = relative_error(found, true)
    torch.testing.assert_close(error[0], torch.tensor(0.1))
    assert error[1].isnan()
    known = summary(error, torch.tensor([True, False]))
    assert known == pytest.approx({"median": 0.1, "max": 0.1, "inexact": 1, "converged": 0.5, "samples": 2})
    assert summary(torch.tensor([1e-5, 2e-4]), torch.tensor([True, True]))["inexact"] == 0.5


def test_another_sampler_than_the_inverted_one_is_refused():
    field = LinearField(with_eigenvalues([0.8, -0.5]))
    found = invert(field, normals(2, 2), 4)
    with pytest.raises(ValueError, match="levels"):
        from_data(FlowSteps(field, 5), found)
