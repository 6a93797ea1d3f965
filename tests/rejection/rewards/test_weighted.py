from importlib import import_module

import pytest
import torch

from graft_lightning.identity import describe
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


class Column(Reward):
    """One column of the samples."""

    def __init__(self, number, scale=1.0, shift=0.0):
        self.number, self.scale, self.shift = number, scale, shift

    def __call__(self, samples, conditions):
        return self.scale * samples[:, self.number] + self.shift


TWO = torch.tensor([[1.0, 10.0], [3.0, 30.0], [5.0, 20.0], [7.0, 1.0], [7.0, 3.0]])
TEXTS = ["a", "a", "a", "b", "b"]


def test_each_reward_is_normalised_within_its_condition():
    """By hand: 1, 3, 5 are -c, 0, c with c = sqrt(3 / 2), and so are 10, 30, 20 in another order; 7, 7 say nothing."""
    c = 1.5**0.5
    found = WeightedSum([Column(0), Column(1)], [1.0, 2.0], normalise=True)(TWO, TEXTS)
    assert found.tolist() == pytest.approx([-3 * c, 2 * c, c, -2.0, 2.0], abs=1e-6)


def test_scale_and_shift_of_a_normalised_reward_do_not_matter():
    plain = WeightedSum([Column(0), Column(1)], normalise=True)(TWO, TEXTS)
    other = WeightedSum([Column(0, 1000.0, -3.0), Column(1, 0.01, 7.0)], normalise=True)(TWO, TEXTS)
    torch.testing.assert_close(other, plain, rtol=0, atol=1e-3)
    turned = torch.tensor([4, 0, 3, 2, 1])
    again = WeightedSum([Column(0), Column(1)], normalise=True)(TWO[turned], [TEXTS[i] for i in turned])
    torch.testing.assert_close(again, plain[turned])


def test_what_one_of_normalised_rewards_cannot_judge_counts_in_none_of_their_means():
    samples = TWO.clone()
    samples[1, 0] = float("nan")
    found = WeightedSum([Column(0), Column(1)], [1.0, 0.0], normalise=True)(samples, TEXTS)
    assert found[1].isnan()
    assert found[[0, 2]].tolist() == pytest.approx([-1.0, 1.0])


def test_a_normalised_sum_is_of_whole_groups_and_judged_by_the_plain_one():
    reward = WeightedSum([Column(0), Column(1)], [1.0, 2.0], "both", normalise=True)
    plain = WeightedSum([Column(0), Column(1)], [1.0, 2.0], "both")
    assert reward.groupwise
    assert not plain.groupwise
    assert plain.evaluated_by is plain
    assert reward.evaluated_by.name == "both"
    assert torch.equal(reward.evaluated_by(TWO, TEXTS), plain(TWO, TEXTS))
    assert describe(reward) != describe(plain)
    assert "normalise" not in describe(plain)  # which pools that it has scored already know it by


def test_no_reward_has_another_use_for_the_name():
    """What evaluations go by is asked of every reward: one that calls something else so would be evaluated by that."""
    import_module("graft_lightning.domains.text_to_image.rewards")
    waiting, found = [Reward], set()
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        found.add(kind)
    assert len(found) > 8
    assert all(isinstance(vars(kind).get("evaluated_by", property()), property) for kind in found)
