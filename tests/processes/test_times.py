"""Levels of training by their value: what one uniform number is turned into."""

import pytest
import torch

from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.samplers import DDPM
from graft_lightning.processes.schedules import Linear, RectifiedFlow
from graft_lightning.processes.times import LogitNormalTime, UniformTime, VisitedLevels
from tests.processes.known import Given, unequal

TABLE, FLOW = Linear(20), RectifiedFlow()


def draw(times, uniform, low, high, schedule=FLOW):
    return times.draw(Given((), (torch.tensor(uniform),)), low, high, schedule).tolist()


def test_uniform_levels():
    """The integers 4 .. 11 have an eighth of [0, 1) each; a number that a narrow type has rounded to 1 is the last."""
    assert draw(UniformTime(), [0.0, 0.124, 0.126, 0.5, 0.99, 1.0], 3.0, 11.0, TABLE) == [4, 4, 5, 8, 11, 11]
    assert draw(UniformTime(), [0.0, 0.25, 0.5], 0.5, 1.0) == [1.0, 0.875, 0.75]


def test_logit_normal_levels():
    """u = 1/2 is the median, sigmoid(mean); u = 0.158655 lies one standard deviation above it."""
    expected = torch.tensor([0.5, 2.5, -1.5]).sigmoid().tolist()
    assert draw(LogitNormalTime(0.5, 2.0), [0.5, 0.158655254, 0.841344746], 0.0, 1.0) == pytest.approx(expected)


def test_logit_normal_levels_stay_inside_where_the_distribution_function_has_no_digits_left():
    """At 0.9999 the function rounds to 1, whose logit is infinite."""
    assert draw(LogitNormalTime(), [0.0], 0.0, 0.9999) == [0.9999]


def test_visited_levels_share_the_uniform_numbers():
    calls = [(20.0,), (15.0,), (10.0,), (5.0,)]
    times = VisitedLevels(calls)
    assert draw(times, [0.0, 0.3, 0.6, 0.9, 1.0], 0.0, 20.0) == [20, 15, 10, 5, 5]
    assert draw(times, [0.0, 0.4, 0.99], 5.0, 15.0) == [15, 15, 10]  # above 5, up to 15


def test_visited_levels_of_fields_that_move_one_by_one():
    """The highest level decides whether a call is in the interval; what would lie below ``low`` is put on it."""
    calls = [(20.0, 20.0), (20.0, 10.0), (10.0, 10.0), (10.0, 0.0)]
    times = VisitedLevels(calls)
    assert draw(times, [0.1, 0.3, 0.6, 0.9], 0.0, 20.0) == [list(call) for call in calls]
    assert draw(times, [0.1, 0.9], 12.0, 20.0) == [[20, 20], [20, 12]]
    assert draw(times, [0.1, 0.9], 0.0, 10.0) == [[10, 10], [10, 0]]


def test_levels_that_all_fields_share_are_one_number_an_example():
    assert draw(VisitedLevels([(20.0, 20.0), (10.0, 10.0)]), [0.1, 0.9], 0.0, 20.0) == [20, 10]


def test_what_a_distribution_of_levels_covers():
    """Calls with one level for all fields any distribution covers, others only one that was made of such calls."""
    together, apart = DDPM(2).training_levels(unequal()), Interleaved(2).training_levels(unequal())
    assert together == [(2.0, 2.0, 2.0), (1.0, 1.0, 1.0)]
    assert apart == [(2.0, 2.0, 2.0), (2.0, 2.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 0.0)]
    found = [times.covers(calls) for times in (UniformTime(), VisitedLevels(together)) for calls in (together, apart)]
    assert found == [True, False, True, False]
    assert VisitedLevels(apart).covers(together)
    assert VisitedLevels(apart).covers(apart)
