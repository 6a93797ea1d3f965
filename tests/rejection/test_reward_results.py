"""What a reward may return, and what is said of everything else."""

import math
import sys
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from graft_lightning.rejection.reward import Reward, RewardError, score
from graft_lightning.rejection.rewards.function import CallableReward


class Returns(Reward):
    def __init__(self, value):
        self.value = value

    def __call__(self, samples, conditions):
        return self.value() if callable(self.value) else self.value


def of(value):
    return score(Returns(value), torch.zeros(2, 3), ["a", "b"])


class Column:
    """As a table's: an array for whoever asks."""

    def __repr__(self):  # the tests' names are those of every process
        return "Column()"

    def __array__(self, dtype=None, copy=None):
        return np.array([1.0, 2.0], dtype=dtype)


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([1.0, 2.0]),
        torch.tensor([1, 2]),
        torch.tensor([1.0, 2.0]).to_sparse(),
        torch.tensor([1.0, 2.0], requires_grad=True),
        np.array([1.0, 2.0]),
        np.array([1, 2.0], dtype=object),
        np.array([1, 2], dtype=np.longdouble),
        Column(),
        [1, 2.0],
        (1, 2),
        [Decimal(1), Fraction(2)],
        [torch.tensor(1.0), torch.tensor(2.0)],
        [np.float64(1), np.int8(2)],
    ],
    ids=repr,
)
def test_one_real_number_a_sample(value):
    found = of(value)
    assert found.dtype == torch.float32
    assert found.tolist() == [1.0, 2.0]


def test_yes_and_no_are_one_and_zero():
    assert of(torch.tensor([True, False])).tolist() == [1.0, 0.0]


def test_what_is_masked_was_not_judged():
    found = of(np.ma.masked_array([1.0, 2.0], mask=[True, False]))
    assert found.isnan().tolist() == [True, False]


@pytest.mark.parametrize("value", [torch.tensor([1e300, 1.0], dtype=torch.float64), [-(10**39), 1]], ids=repr)
def test_a_number_is_not_turned_into_infinity(value):
    with pytest.raises(RewardError, match="more than single precision holds"):
        of(value)
    assert of([math.inf, -math.inf]).tolist() == [math.inf, -math.inf]  # it is the reward's own


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.tensor([1j, 2.0]), "complex"),
        ([1j, 2.0], "complex"),
        (np.array([1j, 2.0]), "complex"),
        ({"score": [1.0, 2.0]}, "dict"),
        (None, "NoneType"),
        (["good", "bad"], "list"),
        ([[1.0], [2.0, 3.0]], "list"),
        (torch.zeros(2, 1), r"shape \(2, 1\)"),
        (torch.zeros(3), r"shape \(3,\)"),
        (1.0, r"shape \(\)"),
        ([None, 1.0], "list"),
        (np.array([None, 1.0]), "ndarray"),
        (["1", "2"], "list"),
        (np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"), "ndarray"),
        ([10**400, 1], "list"),
        (torch.zeros(2, device="meta"), "Tensor"),
        ({1.0, 2.0}, "set"),
    ],
    ids=repr,
)
def test_anything_else_is_refused_by_name(value, words):
    with pytest.raises(
        RewardError, match=rf"reward Returns returned .*{words}.* it must return one real number a sample"
    ):
        of(value)


@pytest.mark.parametrize("code", [0, 1, None, "bye"])
def test_a_reward_cannot_end_the_run(code):
    with pytest.raises(RewardError, match=r"reward Returns called sys\.exit"):
        of(lambda: sys.exit(code))


def test_what_a_reward_raises_is_told_with_its_place():
    with pytest.raises(
        RewardError, match=r"reward Returns failed for 2 samples: ZeroDivisionError: .*test_reward_results"
    ):
        of(lambda: 1 / 0)


def test_an_interrupt_is_the_users():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        of(interrupt)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            [1.0, None],
            r"returned a list .*shape \(2,\); for sample 1 it is None, and of one that cannot be judged it is NaN",
        ),
        (np.array([None, 1.0]), "returned a ndarray .*; for sample 0 it is None"),
    ],
    ids=repr,
)
def test_none_is_no_score_and_the_sample_is_named(value, message):
    with pytest.raises(RewardError, match=message):
        of(value)


def test_a_reward_that_needs_gradients_is_told_how_it_gets_them():
    def force(samples, conditions):
        samples.requires_grad_(True)
        (samples**2).sum().backward()
        return samples.grad[:, 0]

    with pytest.raises(RewardError, match=r"called without gradients, .* opens torch\.enable_grad\(\)"):
        score(CallableReward(force), torch.zeros(2, 3), ["a", "b"])
