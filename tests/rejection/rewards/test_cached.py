import json

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.rewards import CachedReward
from graft_lightning.rejection.rewards.cached import content_keys


class Counting(Reward):
    def __init__(self, factor=1.0):
        self.factor = factor
        self._seen = []

    def __call__(self, samples, conditions):
        x = samples if isinstance(samples, torch.Tensor) else samples["x"]
        self._seen.extend(conditions)
        scores = x.flatten(1).sum(1) * self.factor + torch.tensor([float(len(c)) for c in conditions])
        return torch.where(scores > 100, float("nan"), scores)


X = torch.arange(6.0).reshape(3, 2)


def test_each_pair_is_scored_once_ever(tmp_path):
    inner = Counting()
    reward = CachedReward(inner, str(tmp_path))
    expected = Counting()(X, ["a", "bb", "a"])
    assert torch.equal(reward(X, ["a", "bb", "a"]), expected)
    assert torch.equal(reward(X, ["a", "bb", "a"]), expected)
    assert inner._seen == ["a", "bb", "a"]
    assert reward.hit_rate == 0.5

    # another process: a new object on the same folder; only the pair that is new is scored
    later = Counting()
    reward = CachedReward(later, str(tmp_path))
    assert torch.equal(reward(X.flip(0), ["a", "bb", "ccc"]), torch.tensor([10.0, 7.0, 4.0]))
    assert later._seen == ["ccc"]


def test_twins_within_a_batch_are_scored_once_and_in_order(tmp_path):
    inner = Counting()
    x = X[[2, 0, 2, 1, 0]]
    scores = CachedReward(inner, str(tmp_path))(x, ["a", "a", "a", "b", "a"])
    assert torch.equal(scores, Counting()(x, ["a", "a", "a", "b", "a"]))
    assert inner._seen == ["a", "a", "b"]


def test_nan_is_remembered(tmp_path):
    inner = Counting()
    reward = CachedReward(inner, str(tmp_path))
    for _ in range(2):
        assert reward(torch.full((1, 1), 200.0), ["a"]).isnan().all()
    assert len(inner._seen) == 1


def test_another_reward_or_version_starts_afresh(tmp_path):
    CachedReward(Counting(), str(tmp_path))(X, ["a", "b", "c"])
    for inner, version in [(Counting(2.0), ""), (Counting(), "2")]:
        reward = CachedReward(inner, str(tmp_path), version)
        assert torch.equal(reward(X, ["a", "b", "c"]), Counting(inner.factor)(X, ["a", "b", "c"]))
        assert len(inner._seen) == 3
    assert len(list(tmp_path.iterdir())) == 3
    described = [json.loads((folder / "reward.json").read_text()) for folder in tmp_path.iterdir()]
    assert sorted(entry["reward"]["factor"] for entry in described) == [1.0, 1.0, 2.0]


def test_keys_are_the_content():
    keys = content_keys(X, ["a", "a", "b"])
    assert len(set(keys)) == 3
    assert content_keys(X[1:2], ["a"]) == keys[1:2]
    assert content_keys(X.clone().T.contiguous().T, ["a", "a", "b"]) == keys, "strides are not content"
    changed = [
        content_keys(X[:1], ["b"]),
        content_keys(X[:1].double(), ["a"]),
        content_keys(X[:1, :, None], ["a"]),
        content_keys(X[:1] + 1e-7, ["a"]),
    ]
    assert keys[0] not in [found for (found,) in changed]
    assert len({found for (found,) in changed}) == 4


def test_mixed_states_are_hashed_field_by_field(tmp_path):
    def state(x, mask):
        return TensorDict({"x": x, "inner": {"mask": mask}}, batch_size=[3])

    ones = torch.ones(3, 2, dtype=torch.bool)
    first = state(X, ones)
    keys = content_keys(first, ["", "", ""])
    assert content_keys(state(X.clone(), ones.clone()), ["", "", ""]) == keys
    assert set(content_keys(state(X, ~ones), ["", "", ""])).isdisjoint(keys)
    assert torch.equal(CachedReward(Counting(), str(tmp_path))(first, ["a"] * 3), Counting()(X, ["a"] * 3))


def test_what_cannot_be_kept_is_refused(tmp_path):
    inner = Counting()
    inner.groupwise = True
    with pytest.raises(ValueError, match="Counting scores a sample by the others of its group"):
        CachedReward(inner, str(tmp_path))
    with pytest.raises(TypeError, match="a list has no content to hash"):
        content_keys([1, 2], ["", ""])
