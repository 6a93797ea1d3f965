import math
from itertools import combinations

import pytest
import torch

from graft_lightning.reports.statistics import STUDENT, best_of, interval


def test_interval_of_known_numbers():
    # mean 3, s.d. sqrt(2.5), standard error sqrt(0.5), t(4) = 2.776
    assert interval([1, 2, 3, 4, 5]) == pytest.approx(
        {"mean": 3.0, "low": 3 - 2.776 * math.sqrt(0.5), "high": 3 + 2.776 * math.sqrt(0.5), "n": 5}
    )
    many = interval([float(i % 2) for i in range(100)])
    assert many["high"] - 0.5 == pytest.approx(1.96 * math.sqrt(25 / 99 / 100), rel=1e-6)


def test_intervals_of_too_few_values():
    one = interval([2.0, math.nan])
    assert (one["mean"], one["n"]) == (2.0, 1)
    assert math.isnan(one["low"])
    assert math.isnan(interval([])["mean"])
    assert interval([1.0, 1.0]) == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 2}


def test_intervals_cover_at_their_rate():
    generator = torch.Generator().manual_seed(0)
    for n in (3, 5, 12):
        samples = torch.randn(2000, n, generator=generator, dtype=torch.float64)
        covered = sum(f["low"] <= 0 <= f["high"] for f in map(interval, samples.tolist())) / 2000
        assert covered == pytest.approx(0.95, abs=0.02)


def test_the_table_of_student_decreases_to_the_normal():
    assert list(STUDENT) == sorted(STUDENT, reverse=True)
    assert len(STUDENT) == 30
    assert STUDENT[-1] == pytest.approx(2.042)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_against_every_subset(n):
    rewards, judge = [0.3, 0.9, 0.1, 0.5, 0.7], [1.0, 0.0, 0.0, 1.0, 0.5]
    subsets = list(combinations(range(5), n))
    winners = [max(subset, key=rewards.__getitem__) for subset in subsets]
    for values in (rewards, judge):
        assert best_of(rewards, values, n) == pytest.approx(sum(values[i] for i in winners) / len(winners))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_draw_that_could_not_be_scored_never_wins(n):
    rewards, values = [0.3, math.nan, 0.1, 0.5], [3.0, math.nan, 1.0, 5.0]
    finite = [0.3, 0.1, 0.5]
    subsets = [s for s in combinations(range(4), n) if set(s) != {1}]
    wins = [max((i for i in s if i != 1), key=rewards.__getitem__) for s in subsets]
    assert best_of(rewards, values, n) == pytest.approx(sum(values[i] for i in wins) / len(wins))
    assert best_of(finite, finite, 3) == 0.5
