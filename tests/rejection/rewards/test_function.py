import math

import pytest
import torch

from graft_lightning.rejection.reward import score
from graft_lightning.rejection.rewards import FunctionReward


def test_calls_the_function_with_its_arguments():
    reward = FunctionReward("builtins.sorted", {"key": None})
    with pytest.raises(TypeError):  # sorted takes one positional argument: the two of a reward did arrive
        reward(torch.zeros(1), [""])
    reward = FunctionReward("operator.getitem")
    assert reward(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 1).tolist() == [3.0, 4.0]


def test_numbers_of_any_kind_become_float32(tmp_path, monkeypatch):
    (tmp_path / "own_rewards.py").write_text(
        "def longest(samples, conditions, power=1):\n"
        "    return [len(c) ** power if c else float('nan') for c in conditions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    reward = FunctionReward("own_rewards.longest", {"power": 2})
    scores = score(reward, torch.zeros(2, 1), ["abc", ""])
    assert scores.dtype == torch.float32
    assert scores[0] == 9
    assert math.isnan(scores[1])
    assert reward.name == "longest"
    assert "** power" in reward.evidence()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("score", "names no module"),
        ("math.absent", "module 'math' has no callable 'absent'"),
        ("math.pi", "no callable"),
    ],
)
def test_a_wrong_path_says_what_is_wrong(path, message):
    reward = FunctionReward(path)
    with pytest.raises(ImportError, match=message):
        reward(torch.zeros(1), [""])
