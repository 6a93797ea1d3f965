import importlib
import math
import sys

import pytest
import torch

from graft_lightning.identity import describe
from graft_lightning.processes.samplers import DDIM
from graft_lightning.rejection.collection import Collection
from graft_lightning.rejection.pool import PoolMismatch
from graft_lightning.rejection.reference import open_views
from graft_lightning.rejection.reward import score
from graft_lightning.rejection.rewards.function import CallableReward, FunctionReward
from tests.fakes import CONDITIONS, TinyReference


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


CALLABLES = """
import functools


class Scales:
    def __init__(self, by):
        self._by = by

    def __call__(self, samples, conditions):
        return self._by * samples

    def half(self, samples, conditions):
        return self._by / 2 * samples


def scaled(samples, conditions, by):
    return by * samples


whole = Scales(3)
half = Scales(3).half
partial = functools.partial(scaled, by=3)
"""


@pytest.mark.parametrize("name", ["whole", "half", "partial"])
def test_whatever_can_be_called_counts_by_its_settings_and_its_text(tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def described(old="", new=""):
        (tmp_path / "own_callables.py").write_text(CALLABLES.replace(old, new) if old else CALLABLES)
        sys.modules.pop("own_callables", None)
        importlib.invalidate_caches()
        return describe(FunctionReward(f"own_callables.{name}"), evidence=True)

    found = [described(), described("3", "4"), described("* samples", "+ samples")]
    assert found[0] == described()
    assert found[0] != found[1] != found[2] != found[0]


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


def test_a_reward_of_another_function_is_refused_by_the_pool(tmp_path):
    """Of the same name and captured value, or not: scores of two are never mixed."""

    def rewards():
        for scale in (1.0, 1.0, 2.0):

            def scaled(samples, conditions, by=scale):
                return by * samples[:, 0]

            yield CallableReward(scaled)

    model = TinyReference(DDIM(4))
    views = open_views(model, model.build())
    first, same, other = (Collection(model, [r], tmp_path, CONDITIONS, draws=4) for r in rewards())
    identity = model.fingerprint(views.original)
    assert [one.fill(views.frozen, identity).drawn for one in (first, same)] == [8, 0]
    with pytest.raises(PoolMismatch, match="function"):
        other.fill(views.frozen, identity)
