"""Weightings of the loss: known values, bounded, and the same in every output type."""

import pytest
import torch

from graft_lightning.processes.outputs import convert, epsilon_factor
from graft_lightning.processes.schedules import Cosine, RectifiedFlow, Trigonometric
from graft_lightning.processes.weightings import CappedInverseAlpha, MinSNR, OwnOutput, Unit, Weighting
from tests.fakes import OUTPUTS

WEIGHTINGS = [Unit(), MinSNR(), MinSNR(1.0), CappedInverseAlpha(15.0)]
SCHEDULES = [Cosine(), RectifiedFlow()]


def alpha_sigma(schedule):
    return schedule.alpha_sigma(torch.tensor([0.01, 0.3, 0.7, 0.95, 1.0]).double() * schedule.t_max)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["vp", "flow"])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda w: type(w).__name__)
@pytest.mark.parametrize("output", OUTPUTS)
def test_weighted_errors_agree_between_outputs(schedule, weighting, output):
    """Two answers apart by a known amount: the weighted squared distance is the same read as eps or as the output."""
    alpha, sigma = (value[:4] for value in alpha_sigma(schedule))
    x_t, first, second = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    here, there = (convert(output, answer, x_t, alpha, sigma).epsilon for answer in (first, second))
    of_epsilon = weighting.for_output("epsilon", alpha, sigma) * (here - there).pow(2).sum(1)
    of_output = weighting.for_output(output, alpha, sigma) * (first - second).pow(2).sum(1)
    torch.testing.assert_close(of_output, of_epsilon)


def test_capped_inverse_alpha_is_a_v_loss_below_its_cap():
    alpha, sigma = alpha_sigma(Cosine())
    weight = CappedInverseAlpha(15.0).for_output("v_prediction", alpha, sigma)
    below = alpha**-2 < 15
    assert 0 < below.sum() < len(alpha)
    torch.testing.assert_close(weight[below], torch.ones_like(weight[below]))
    torch.testing.assert_close(weight[~below], 15 * alpha[~below] ** 2)


def test_min_snr_is_the_published_one():
    alpha, sigma = alpha_sigma(Cosine())
    snr = (alpha / sigma) ** 2
    torch.testing.assert_close(MinSNR(5.0).weight(alpha, sigma), snr.clamp_max(5.0) / snr)


@pytest.mark.parametrize("weighting", [*WEIGHTINGS, OwnOutput()], ids=lambda w: type(w).__name__)
@pytest.mark.parametrize("output", OUTPUTS)
def test_finite_where_the_signal_has_vanished(weighting, output):
    weight = weighting.for_output(output, *alpha_sigma(RectifiedFlow()))
    assert weight.isfinite().all()
    assert (weight >= 0).all()


class Squared(Weighting):
    """A weighting of somebody else's."""

    def weight(self, alpha, sigma):
        return alpha**2


@pytest.mark.parametrize("schedule", [RectifiedFlow(), Trigonometric()], ids=["exactly 0", "0 to rounding"])
@pytest.mark.parametrize("weighting", [*WEIGHTINGS, OwnOutput(), Squared()], ids=lambda w: type(w).__name__)
@pytest.mark.parametrize("output", [output for output in OUTPUTS if output != "epsilon"])
def test_without_signal_the_weight_is_the_outputs_own(schedule, weighting, output):
    """At t = T alone: in units of eps the first sampling step would have no gradient."""
    alpha, sigma = alpha_sigma(schedule)
    weight = weighting.for_output(output, alpha, sigma)
    assert weight[-1] == 1
    if not isinstance(weighting, OwnOutput):
        below = weighting.weight(alpha, sigma) * epsilon_factor(output, alpha, sigma) ** 2
        torch.testing.assert_close(weight[:-1], below[:-1])
        assert below[-1] < 1e-30


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda w: type(w).__name__)
def test_without_signal_the_weight_of_eps_stays(weighting):
    alpha, sigma = alpha_sigma(RectifiedFlow())
    torch.testing.assert_close(weighting.for_output("epsilon", alpha, sigma), weighting.weight(alpha, sigma))


def test_a_schedule_of_little_signal_keeps_its_weights():
    """alpha_T = 5e-5 is a signal: the cosine table's v-loss at T is what eps makes of it."""
    alpha, sigma = alpha_sigma(Cosine())
    assert 0 < alpha[-1] < 1e-4
    assert Unit().for_output("v_prediction", alpha, sigma)[-1] == pytest.approx(float(alpha[-1] ** 2))


def test_own_output_is_1_in_its_own_units_alone():
    assert OwnOutput().for_output("flow", *alpha_sigma(RectifiedFlow())).tolist() == [1.0] * 5
    with pytest.raises(TypeError, match="for_output"):
        OwnOutput().weight(torch.ones(1), torch.ones(1))


@pytest.mark.parametrize("make", [lambda: MinSNR(0.0), lambda: CappedInverseAlpha(0.5)])
def test_wrong_settings_are_refused(make):
    with pytest.raises(ValueError, match=r"gamma=0|cap=0\.5"):
        make()


@pytest.mark.parametrize("share", [0.0, 6e-17, -4.4e-8])
def test_a_signal_of_rounding_is_none(share):
    """The cosine of pi / 2, in float64 and in float32."""
    alpha, sigma = torch.tensor([share, 1e-3]).double(), torch.tensor([1.0, 1.0]).double()
    for weighting in WEIGHTINGS:
        weight = weighting.for_output("v_prediction", alpha, sigma)
        assert weight[0] == 1
        assert weight[1] < 1e-4
