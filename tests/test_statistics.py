"""The one interval: quantiles in closed form, coverage, what it is over; and best-of-n."""

import math
from itertools import combinations, product

import pytest
import torch

from graft_lightning.statistics import (
    best_of,
    finite_mean,
    interval,
    over_conditions,
    over_samples,
    student_quantile,
    wilson,
    without_interval,
)

NAN = math.nan


def ends(figure):
    return figure["low"], figure["high"]


def test_quantiles_of_student_in_closed_form():
    p = 0.975
    assert student_quantile(2) == pytest.approx(math.tan(math.pi * (p - 0.5)))
    assert student_quantile(3) == pytest.approx((2 * p - 1) / math.sqrt(2 * p * (1 - p)))
    root = math.sqrt(4 * p * (1 - p))
    four = 2 * math.sqrt(math.cos(math.acos(root) / 3) / root - 1)
    assert student_quantile(5) == pytest.approx(four)
    assert student_quantile(10**8) == pytest.approx(1.959964, abs=1e-6)
    assert math.isnan(student_quantile(1))


def test_interval_of_known_numbers():
    # mean 3, s.d. sqrt(2.5), standard error sqrt(0.5), t(4) = 2.7764
    half = 2.776445 * math.sqrt(0.5)
    assert interval([1, 2, 3, 4, 5]) == pytest.approx({"mean": 3.0, "low": 3 - half, "high": 3 + half, "n": 5})
    assert interval([1, math.inf, 2, 3, NAN, 4, 5, -math.inf]) == interval([1, 2, 3, 4, 5])


@pytest.mark.parametrize("values", [[], [2.0], [2.0, NAN], [1.0], [0.0, math.inf]])
@pytest.mark.parametrize("of", [interval, wilson, over_samples, lambda values: over_conditions([values])])
def test_fewer_than_two_values_have_no_interval(of, values):
    figure = of(values)
    finite = [value for value in values if math.isfinite(value)]
    assert figure["n"] == len(finite)
    assert figure["mean"] == pytest.approx(finite[0] if finite else NAN, nan_ok=True)
    assert all(map(math.isnan, ends(figure)))


def test_what_has_no_interval_says_so():
    assert without_interval(0.3, 7) == pytest.approx({"mean": 0.3, "low": NAN, "high": NAN, "n": 7}, nan_ok=True)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_intervals_over_few_conditions_cover_at_their_rate(n):
    generator = torch.Generator().manual_seed(n)
    count = 4000
    samples = torch.randn(count, n, 1, generator=generator, dtype=torch.float64)
    covered = sum(f["low"] <= 0 <= f["high"] for f in map(over_conditions, samples.tolist())) / count
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / count)


def test_wilson_in_closed_form():
    z2 = 1.959964**2
    assert ends(wilson([0.0] * 10)) == pytest.approx((0.0, z2 / (10 + z2)), abs=1e-6)
    assert ends(wilson([1.0] * 10)) == pytest.approx((10 / (10 + z2), 1.0), abs=1e-6)
    # its ends are where the score test rejects: (p - end)^2 = z^2 end (1 - end) / n
    figure = wilson([1.0] * 3 + [0.0] * 5)
    for end in ends(figure):
        assert (3 / 8 - end) ** 2 == pytest.approx(z2 * end * (1 - end) / 8, rel=1e-5)
    assert (figure["mean"], figure["n"]) == (0.375, 8)


@pytest.mark.parametrize("n", [2, 5, 33])
def test_wilson_holds_its_share_to_the_last_bit(n):
    for k in range(n + 1):
        figure = wilson([1.0] * k + [0.0] * (n - k))
        assert 0 <= figure["low"] <= figure["mean"] <= figure["high"] <= 1
        assert figure["low"] < figure["high"]


def test_wilson_covers_near_its_rate():
    """The exact coverage, averaged over shares, of 12 samples; a plain Student interval misses at the ends."""
    n, shares = 12, [i / 200 for i in range(1, 200)]

    def coverage(of):
        intervals = [ends(of([1.0] * k + [0.0] * (n - k))) for k in range(n + 1)]
        hits = [
            sum(
                math.comb(n, k) * p**k * (1 - p) ** (n - k)
                for k, (low, high) in enumerate(intervals)
                if low <= p <= high
            )
            for p in shares
        ]
        return sum(hits) / len(hits)

    assert coverage(wilson) == pytest.approx(0.95, abs=0.01)
    assert coverage(interval) < 0.93


def test_several_conditions_are_what_the_interval_is_over():
    table = [[2.0, 3.0], [1.0, NAN], [NAN, NAN], [4.0]]
    assert over_conditions(table) == interval([2.5, 1.0, 4.0])
    assert over_conditions([[0.0, 1.0], [1.0, 1.0]]) == interval([0.5, 1.0])


def test_of_one_condition_the_interval_is_over_its_samples():
    assert over_conditions([[0.2, 0.4, 0.9]]) == interval([0.2, 0.4, 0.9])
    assert over_conditions([[0.2, 0.4, 0.9], [NAN]]) == interval([0.2, 0.4, 0.9])
    assert over_conditions([[1.0, 1.0, NAN, 0.0]]) == wilson([1.0, 1.0, 0.0])


def test_scores_of_zero_and_one_that_agree_have_a_width():
    assert over_conditions([[1.0] * 8]) == wilson([1.0] * 8)
    assert over_conditions([[1.0] * 8] * 4) == wilson([1.0] * 4)
    assert over_conditions([[0.0]] * 3) == wilson([0.0] * 3)


def test_single_draws_of_zero_and_one_have_the_interval_of_samples():
    table = [[1.0], [1.0, NAN], [0.0], [1.0]]
    assert over_conditions(table) == over_samples([1.0, 1.0, 0.0, 1.0]) == wilson([1.0, 1.0, 0.0, 1.0])
    assert over_conditions([[1.0] * 4, [0.0] * 4]) == wilson([1.0, 0.0])
    assert over_conditions([[1.0, 1.0], [0.0, 1.0], [0.0]]) == interval([1.0, 0.5, 0.0])


def test_shares_that_agree_between_conditions_have_a_width():
    """Half of the draws of each of n conditions: Wilson's half-width at 1/2 is z / (2 sqrt(n + z^2))."""
    z = 1.959964
    for n, row in ((2, [0.0, 1.0]), (5, [1.0, 0.0, 0.0, 1.0])):
        half = z / (2 * math.sqrt(n + z**2))
        figure = over_conditions([row] * n)
        assert ends(figure) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
        assert (figure["mean"], figure["n"]) == (0.5, n)
    assert over_conditions([[0.0, 1.0], [0.0, 1.0, NAN], [1.0, 1.0, 0.0, 0.0]])["n"] == 3
    assert over_conditions([[0.0, 1.0], [0.0, 0.5, 1.0]]) == interval([0.5, 0.5])  # of others nothing is known


def test_nothing_has_no_mean():
    assert over_conditions([])["n"] == 0
    assert math.isnan(over_conditions([[NAN], []])["mean"])
    assert math.isnan(finite_mean([NAN, math.inf]))
    assert finite_mean([1.0, NAN, 2.0]) == 1.5


def by_enumeration(rewards, values, n):
    """Every subset of n draws; of equal highest rewards the values alike."""
    total = weight = 0.0
    for subset in combinations(range(len(rewards)), n):
        finite = [i for i in subset if math.isfinite(rewards[i])]
        if finite:
            highest = max(rewards[i] for i in finite)
            winners = [i for i in finite if rewards[i] == highest]
            known = [i for i in winners if math.isfinite(values[i])]
            total += sum(values[i] for i in known) / len(winners)
            weight += len(known) / len(winners)
    return total / weight if weight else NAN


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_against_every_subset(n):
    rewards, held_out = [0.3, 0.9, 0.1, 0.5, 0.7], [1.0, 0.0, 0.0, 1.0, 0.5]
    for values in (rewards, held_out):
        assert best_of(rewards, values, n) == pytest.approx(by_enumeration(rewards, values, n))


def test_ties_of_the_reward_are_broken_without_the_held_out_metric():
    assert best_of([1, 1, 1, 1], [0, 0, 1, 1], 4) == pytest.approx(0.5)
    assert best_of([1, 1, 1, 1], [1, 1, 0, 0], 1) == pytest.approx(0.5)
    assert best_of([0, 0, 5, 5], [9, 9, 0, 1], 3) == pytest.approx(0.5)  # one of the two best is in every three


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_table_of_three_rewards_against_every_subset(n):
    held_out = [0.0, 1.0, 0.25, NAN]
    for rewards in product([0.0, 1.0, NAN], repeat=4):
        expected = by_enumeration(rewards, held_out, n)
        assert best_of(rewards, held_out, n) == pytest.approx(expected, nan_ok=True)


def test_best_of_a_binary_reward_that_says_nothing_is_the_mean():
    """Best 8 of 32 by a reward of 0 and 1 that is independent of the metric: the metric's own mean, not its best."""
    rewards = [float(i < 16) for i in range(32)]
    held_out = [float(i % 2) for i in range(32)]
    assert best_of(rewards, held_out, 8) == pytest.approx(0.5)
    assert best_of(rewards, rewards, 8) == pytest.approx(1 - math.comb(16, 8) / math.comb(32, 8))


def test_more_than_there_are_is_not_known():
    assert math.isnan(best_of([1.0, 2.0], [1.0, 2.0], 3))
    assert math.isnan(best_of([NAN], [1.0], 1))
