import pytest
import torch

from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.rewards import WeightedSum


class Constant(Reward):
    def __init__(self, value, groupwise=False):
        self.value = value
        self.groupwise = groupwise
        self.device = "nowhere"

    def __call__(self, samples, conditions):
        return samples[:, 0] * self.value

    def to(self, device):
        self.device = device
        return self


def test_sum():
    samples = torch.tensor([[1.0], [2.0], [float("nan")]])
    summed = WeightedSum([Constant(1.0), Constant(10.0)], [2.0, -0.5])(samples, ["", "", ""])
    assert summed[:2].tolist() == [-3.0, -6.0]
    assert summed[2].isnan()
    assert WeightedSum([Constant(1.0), Constant(10.0)])(samples[:1], [""]).tolist() == [11.0]


def test_what_the_parts_are_the_sum_is():
    parts = [Constant(1.0), Constant(2.0, groupwise=True)]
    summed = WeightedSum(parts)
    assert summed.groupwise
    assert not WeightedSum(parts[:1]).groupwise
    assert summed.to("cpu") is summed
    assert [part.device for part in parts] == ["cpu", "cpu"]


def test_weights_and_rewards_must_match():
    with pytest.raises(ValueError, match="1 weights for 2 rewards"):
        WeightedSum([Constant(1.0), Constant(2.0)], [1.0])
    with pytest.raises(ValueError, match="give at least one"):
        WeightedSum([])
