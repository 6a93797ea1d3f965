"""The contract of rewards: one number a sample, NaN where there is none."""

import math

import pytest
import torch

from graft_lightning.rejection.reward import Reward, score
from tests.fakes import LinearReward


class Returns(Reward):
    def __init__(self, value):
        self.value = value

    def __call__(self, samples, conditions):
        return self.value


def test_scores_are_float32_on_the_cpu_without_gradient():
    samples = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    scores = score(LinearReward((2.0, 1.0)), samples, ["left"] * 3)
    assert (scores.dtype, scores.requires_grad) == (torch.float32, False)
    assert scores.tolist() == [3.0] * 3


def test_lists_and_whole_numbers_are_scores_too():
    assert score(Returns([1, 0]), None, ["a", "b"]).tolist() == [1.0, 0.0]


def test_nan_is_passed_on():
    scores = score(Returns(torch.tensor([1.0, math.nan, math.inf])), None, ["a"] * 3)
    assert scores.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    "wrong", [torch.ones(2, 1), torch.ones(()), torch.ones(3), torch.ones(0)], ids=lambda w: str(w.shape)
)
def test_a_wrong_shape_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=r"reward Returns returned shape .* for 2 samples.*shape \(2,\)"):
        score(Returns(wrong), None, ["a", "b"])


def test_a_reward_is_called_by_its_class():
    assert Returns(0).name == "Returns"
    assert Returns(0).groupwise is False
    assert Returns(0).to("cpu").name == "Returns"
