"""Figures of a hand-off that have a closed form."""

import math
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import CategoricalPath, CentredGaussianPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import Cosine, RectifiedFlow, Trigonometric
from graft_lightning.rejection.acceptance import ClassicalRejection, SoftAcceptance, TopK
from graft_lightning.rejection.decided_level import (
    Estimate,
    accepted_mean,
    continue_from,
    crossing,
    error_of_variance,
    estimate,
    recommended,
    reward_variance,
    score_distance,
    share_of,
    within_condition_variance,
)
from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.selection import select

TEXTS, LEVEL = ["a", "b", "c"], 0.3
MASK = torch.tensor([[True] * 4, [True] * 3 + [False], [True] * 2 + [False] * 2])


class Constant(Denoiser):
    """Predicts v = ``value`` for what is real and something large for padding, and says that all classes are alike."""

    def __init__(self, value: float) -> None:
        self.value, self.output = value, {"positions": "v_prediction", "types": "logits"}

    def __call__(self, x_t, t, condition):
        v = torch.where(x_t["mask"][..., None], self.value, 100.0).expand_as(x_t["positions"])
        return {"positions": v, "types": torch.zeros(*x_t["types"].shape, 5)}


def reference_of(*fields):
    paths = {
        "positions": CentredGaussianPath(Trigonometric()),
        "types": CategoricalPath(Trigonometric(), 5),
    }
    process = Process({name: paths[name] for name in fields})
    return SimpleNamespace(process=process, encode=lambda texts, device: None)


def mixed():
    types = torch.zeros(3, 4, dtype=torch.int64)
    return TensorDict({"positions": torch.randn(3, 4, 3), "types": types, "mask": MASK}, batch_size=[3])


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_the_score_of_a_mixed_state_is_that_of_its_positions(value):
    """v = 0 is the score of N(0, I), at every state; eps differs from it by alpha v. Padding is not seen."""
    found = score_distance(reference_of("positions", "types"), Constant(value), mixed(), LEVEL, TEXTS)
    alpha = float(torch.cos(torch.tensor(torch.pi * LEVEL / 2)))
    assert found.mean == pytest.approx((alpha * value) ** 2, abs=1e-6)
    assert (found.error, found.n) == (pytest.approx(0, abs=1e-6), 3)


def test_classes_have_no_score():
    assert score_distance(reference_of("types"), Constant(1.0), mixed(), LEVEL, TEXTS) is None


def test_the_score_of_pure_noise_is_at_no_distance():
    """Of a tensor state; where the schedule ends in noise, x itself is eps."""

    class Identity(Denoiser):
        output = "epsilon"

        def __call__(self, x_t, t, condition):
            return x_t

    path = GaussianPath(Cosine())
    reference = SimpleNamespace(process=Process(path), encode=lambda texts, device: None)
    x, t = torch.randn(3, 2), path.schedule.t_max
    alpha, sigma = (float(value) for value in path.alpha_sigma(torch.tensor(float(t))))
    expected = (x * (1 - sigma / (alpha**2 + sigma**2))).pow(2).mean()
    assert score_distance(reference, Identity(), x, t, TEXTS).mean == pytest.approx(float(expected), abs=1e-9)
    halfway = score_distance(reference, Identity(), x, t // 2, TEXTS).mean
    assert halfway > 100 * float(expected) + 1e-3


@pytest.mark.parametrize("schedule", [RectifiedFlow(), Cosine()], ids=["flow", "vp"])
def test_the_score_of_gaussian_data_is_that_of_the_gaussian(schedule):
    """Data N(0, I) stay Gaussian at every level, with the variance alpha^2 + sigma^2, which is not 1 for a flow."""

    class OfGaussian(Denoiser):
        output = "epsilon"

        def __call__(self, x_t, t, condition):
            alpha, sigma = schedule.alpha_sigma(t)
            return (sigma / (alpha**2 + sigma**2))[:, None].to(x_t) * x_t

    reference = SimpleNamespace(process=Process(GaussianPath(schedule)), encode=lambda texts, device: None)
    for share in (0.25, 0.5, 0.75):
        found = score_distance(reference, OfGaussian(), torch.randn(3, 2), share * schedule.t_max, TEXTS)
        assert found.mean < 1e-12


# values of the estimates


def test_an_estimate_is_mean_and_standard_error():
    """Of 0, 1, 5: variance 7, divided by n - 1."""
    found = estimate(torch.tensor([0.0, 1.0, math.nan, 5.0]))
    assert (found.mean, found.error, found.n) == (2, pytest.approx((7 / 3) ** 0.5), 3)
    assert estimate(torch.tensor([1.0])).n == 1
    assert math.isnan(estimate(torch.tensor([1.0])).error)
    assert estimate(torch.tensor([math.nan])).n == 0


def test_the_variance_within_conditions_is_unbiased():
    """2 and 8, by n - 1; single draws say nothing, and the means of the conditions do not matter."""
    table = torch.tensor([[0.0, 2.0, math.nan], [100.0, 104.0, math.nan], [1.0, math.nan, math.inf]])
    assert within_condition_variance(table) == 5
    assert math.isnan(within_condition_variance(table[2:]))


def test_the_error_of_the_variance_is_that_of_its_distribution():
    """Gaussian rewards: Var(s^2) = 2 / (n - 1), over C conditions 1 / C of it; seen and as estimated."""
    tables = torch.randn(400, 20, 12, generator=torch.Generator().manual_seed(0))
    spread = torch.tensor([within_condition_variance(table) for table in tables]).std()
    assert float(spread) == pytest.approx((2 / 11 / 20) ** 0.5, rel=0.1)
    told = torch.tensor([error_of_variance(table) for table in tables]).square().mean().sqrt()
    assert float(told) == pytest.approx(float(spread), rel=0.15)
    # by hand: m_4 = 41 / 3 and s^2 = 3 of -1, -1, 2 about their mean; the second term vanishes for three draws
    assert error_of_variance(torch.tensor([[-1.0, -1.0, 2.0]])) == pytest.approx(((1 + 1 + 16) / 3 / 3) ** 0.5)
    # m_4 = 1, s^2 = 4 / 3 of two pairs
    assert error_of_variance(torch.tensor([[-1.0, 1.0, -1.0, 1.0]])) == pytest.approx(((1 - 16 / 27) / 4) ** 0.5)
    assert math.isnan(error_of_variance(torch.tensor([[1.0]])))


def test_a_share_has_the_errors_of_both():
    found = share_of(Estimate(2.0, 0.3, 7), 4.0, 0.8)
    assert (found.mean, found.error, found.n) == (0.5, pytest.approx(0.5 * (0.15**2 + 0.2**2) ** 0.5), 7)


def selected(rewards, acceptance):
    table = torch.tensor(rewards)
    seeds = torch.arange(table.numel()).reshape(table.shape)
    return select(table, torch.full(table.shape, -1), seeds, acceptance)


def test_the_accepted_mean_takes_conditions_alike():
    """3, 2 of one condition and 30, 20 of another: by hand."""
    found = accepted_mean(selected([[0.0, 1.0, 2.0, 3.0], [0.0, 10.0, 20.0, 30.0]], TopK(2)))
    values = torch.tensor([2.0, 3.0, 20.0, 30.0])
    assert (found.mean, found.n) == (pytest.approx(13.75), 4)
    assert found.error == pytest.approx(float(values.std(correction=1)) / 2)


def test_the_accepted_mean_is_weighted():
    """Weights 1 : e of the rewards 0 and 1; they are worth (1 + e)^2 / (1 + e^2) values. NaN never counts."""
    rule = SoftAcceptance(ClassicalRejection(1.0, 1.0))
    found = accepted_mean(selected([[0.0, 1.0, math.nan]], rule))
    low, high = 1 / (1 + math.e), math.e / (1 + math.e)
    worth = 1 / (low**2 + high**2)
    assert found.mean == pytest.approx(high)
    assert found.error == pytest.approx((low * high / (worth - 1)) ** 0.5)
    assert found.n == round(worth) == 2


def test_one_accepted_sample_has_no_error():
    found = accepted_mean(selected([[0.0, 1.0, 5.0]], TopK(1)))
    assert (found.mean, found.n) == (5, 1)
    assert math.isnan(found.error)


class Value(Reward):
    def __call__(self, samples, conditions):
        return samples[:, 0]


def continued(stochastic=True):
    """Each continuation of a state x ends at x, x + 1 and x + 5, in this order."""
    ends = iter([0.0, 1.0, 5.0])
    return SimpleNamespace(
        sampler=SimpleNamespace(
            stochastic=lambda process: stochastic,
            resume=lambda d, p, c, noise, x, level: SimpleNamespace(x_0=x + next(ends)),
        ),
        process=None,
        encode=lambda texts, device: None,
        decode=lambda x: x,
    )


def variance_of(reference, continuations=3):
    states, seeds = torch.tensor([[0.0], [10.0], [20.0]]), torch.arange(3)
    return reward_variance(reference, None, Value(), states, LEVEL, TEXTS, seeds, continuations, 8, "cpu")


def test_the_variance_among_continuations_is_unbiased():
    found = variance_of(continued())
    assert (found.mean, found.error, found.n) == (7, 0, 3)


def test_a_variance_needs_chance_and_two_continuations():
    with pytest.raises(ValueError, match="deterministic"):
        variance_of(continued(stochastic=False))
    with pytest.raises(ValueError, match="continuations=1"):
        variance_of(continued(), 1)


# the recommended level


def gaussian_shares(levels, spread=0.5, error=0.0):
    """Data N(0, 1/4), a flow, a linear reward: E[Var(r | X_t)] / Var(r) = t^2 / (t^2 + (1 - t)^2 / 4)."""
    return [Estimate(t**2 / (t**2 + (1 - t) ** 2 * spread**2), error, 100) for t in levels]


def test_all_levels_find_where_a_linear_reward_is_decided():
    """The share is .1 at t = 1 / 7; coarser levels bracket it."""
    levels = [n / 1000 for n in range(1, 1001)]
    found = recommended(levels, gaussian_shares(levels), 0.1)
    assert found.crossing == pytest.approx(1 / 7, abs=1e-5)
    assert found.level == 0.142
    assert (found.below, found.above) == (False, False)
    assert found.low == found.high == found.crossing
    coarse = recommended([0.1, 0.2], gaussian_shares([0.1, 0.2]), 0.1)
    assert 0.1 < coarse.crossing < 0.2
    assert coarse.level == 0.1


def test_below_the_first_kept_level_nothing_is_made_up():
    levels = [0.25, 0.5, 0.75]
    found = recommended(levels, gaussian_shares(levels, error=0.02), 0.1)
    assert math.isnan(found.crossing)
    assert (found.level, found.low, found.high) == (0.25, 0, 0.25)
    assert (found.below, found.above) == (True, False)


def test_nothing_that_crosses_is_said_so_and_has_an_open_end():
    levels = [0.02, 0.05, 0.1]
    found = recommended(levels, gaussian_shares(levels, error=0.001), 0.1)
    assert math.isnan(found.crossing)
    assert (found.level, found.low, found.high) == (0.1, 0.1, 1)
    assert (found.below, found.above) == (False, True)


def test_an_interval_may_be_open_at_both_ends():
    """The crossing is seen, but the first level may be above it already and the last below."""
    shares = [Estimate(0.05, 0.1, 9), Estimate(0.15, 0.1, 9)]
    found = recommended([0.25, 0.5], shares, 0.1)
    assert found.crossing == pytest.approx(0.375)
    assert (found.level, found.low, found.high, found.below, found.above) == (0.25, 0, 1, True, True)
    unknown = [Estimate(share.mean, math.nan, 1) for share in shares]
    assert recommended([0.25, 0.5], unknown, 0.1) == found


def test_the_interval_is_where_the_bounds_of_the_shares_cross():
    """Shares equal to the level, known to .01: nine values, Student's t of eight degrees of freedom is 2.306."""
    levels = [0.05, 0.15, 0.25]
    found = recommended(levels, [Estimate(t, 0.01 / 2.306004, 9) for t in levels], 0.1)
    assert (found.low, found.crossing, found.high) == pytest.approx((0.09, 0.1, 0.11))
    assert (found.level, found.below, found.above) == (0.05, False, False)


def test_a_share_that_sinks_again_does_not_count():
    """What lies above a level that is not decided is not recommended, whatever it was measured to be."""
    shares = [Estimate(share, 0.0, 9) for share in (0.02, 0.3, 0.05, 0.6)]
    assert recommended([0.2, 0.4, 0.6, 0.8], shares, 0.1).level == 0.2


def test_crossings():
    assert crossing([1.0, 2.0, 4.0], [0.0, 1.0, 3.0], 2.0) == 3
    assert crossing([1.0, 2.0], [0.0, 1.0], 1.0) == math.inf
    assert crossing([1.0, 2.0], [0.5, 1.0], 0.25) == -math.inf
    assert crossing([1.0, 2.0], [0.0, math.inf], 0.5) == 1
    assert crossing([1.0, 2.0], [-math.inf, 1.0], 0.5) == 2
    assert crossing([1.0, 2.0], [-1e300, 1.0], 0.5) == 2


def test_a_share_without_an_interval_does_not_end_that_of_the_crossing():
    """Nothing bounds the share at .25, and at .5 it is above the limit: it may be crossed anywhere below .5."""
    for unknown in (Estimate(0.05, math.nan, 1), Estimate(0.05, 0.01, 1)):
        found = recommended([0.25, 0.5], [unknown, Estimate(0.5, 0.01, 50)], 0.1)
        assert found.low <= found.crossing <= found.high
        assert (found.low, found.high, found.below, found.above) == (0, 0.5, True, False)
    shares = [Estimate(0.02, 0.001, 50), Estimate(0.05, math.nan, 1), Estimate(0.5, 0.01, 50)]
    found = recommended([0.25, 0.5, 0.75], shares, 0.1)
    assert (found.low, found.high, found.below, found.above) == (0.25, 0.75, False, False)


def test_levels_may_be_given_in_any_order():
    levels = [0.05, 0.1, 0.15, 0.25]
    shares = gaussian_shares(levels, error=0.001)
    assert recommended(levels[::-1], shares[::-1], 0.1) == recommended(levels, shares, 0.1)


def test_shares_that_are_missing_are_refused():
    for shares in ([], [Estimate(math.nan, 0.1, 0)]):
        with pytest.raises(ValueError, match="shares="):
            recommended([0.25][: len(shares)], shares, 0.1)


class Recorder:
    """A sampler that ends where it was, plus a normal number of each trajectory's own."""

    def stochastic(self, process):
        return True

    def __init__(self):
        self.levels = []

    def resume(self, denoiser, process, condition, noise, x, level):
        self.levels.append(level)
        return SimpleNamespace(x_0=x + noise.normal(1).to(x))


def recorded():
    return SimpleNamespace(sampler=Recorder(), process=None, encode=lambda texts, device: None, decode=lambda x: x)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 7])
def test_trajectories_are_finished_each_once_from_its_own_seed(batch_size):
    states, seeds, texts = torch.arange(5.0)[:, None] * 10, torch.arange(5) + 3, ["a"] * 5
    found, whole = (
        continue_from(recorded(), None, Value(), states, LEVEL, texts, seeds, size, "cpu") for size in (batch_size, 5)
    )
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(found, states[:, 0] + Noise(seeds).normal(1)[:, 0].float())


def test_continuations_differ_from_each_other():
    """Normal ends: the variance is 1; were all continuations of a state the same it would be 0."""
    count = 400
    states, seeds = torch.zeros(count, 1), torch.arange(count)
    found = reward_variance(recorded(), None, Value(), states, LEVEL, ["a"] * count, seeds, 3, count, "cpu")
    assert found.mean == pytest.approx(1, abs=4 * found.error)
    assert found.error == pytest.approx(1 / count**0.5, rel=0.3)
