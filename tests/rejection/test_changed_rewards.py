"""A reward that was changed never trains on its old scores in silence: whatever it is made of, and whatever changed."""

import functools
import importlib
import logging
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from graft_lightning.processes.samplers import DDIM
from graft_lightning.rejection.collection import Collection
from graft_lightning.rejection.pool import PoolMismatch, TrajectoryPool
from graft_lightning.rejection.reference import open_views
from graft_lightning.rejection.reward import Reward, RewardError
from graft_lightning.rejection.rewards import FunctionReward, Lexicographic, WeightedSum
from graft_lightning.rejection.rewards.function import CallableReward
from graft_lightning.rejection.scoring import rescore
from graft_lightning.types import SettingsError
from tests.fakes import CONDITIONS, GaussianReference, LinearReward

DRAWS = 3
MODULE = """
import torch
from graft_lightning.rejection.reward import Reward

SIGN = 1.0
WEIGHTS = [1.0]
WEIGHTS.append(2.0)


def helped(x):
    return x + 0.25


class Own(Reward):
    def __init__(self, scale=1.0):
        self._scale = scale

    def __call__(self, samples, conditions):
        return self._scale * SIGN * helped(samples[:, 0]) * sum(WEIGHTS)


def own(samples, conditions):
    return SIGN * helped(samples[:, 0])
"""


class Setup:
    """A reference, and what fills a pool with its samples."""

    def __init__(self, folder):
        self.folder, self.reference = folder / "pool", GaussianReference(DDIM(2))
        network = self.reference.build()
        self.frozen = open_views(self.reference, network).frozen
        self.identity = self.reference.fingerprint(network)

    def fill(self, *rewards, anew=False, draws=DRAWS):
        collection = Collection(self.reference, rewards, self.folder, CONDITIONS, draws, batch_size=4, rescore=anew)
        return collection.fill(self.frozen, self.identity)

    def expected(self, reward, draws=DRAWS):
        """What the reward says of the stored samples, with nothing in between."""
        opened = TrajectoryPool.open(self.folder).round(0, CONDITIONS, draws)
        texts = [text for text in CONDITIONS for _ in range(draws)]
        x_0 = opened.read(range(len(opened)), ["x_0"])["x_0"]
        return torch.as_tensor(reward(x_0, texts)).float().reshape(-1, draws)


@pytest.fixture
def setup(tmp_path):
    return Setup(tmp_path)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a user's file with a change, and loads it as a new process would."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(old="", new=""):
        assert old in MODULE
        (tmp_path / "own_module.py").write_text(MODULE.replace(old, new) if old else MODULE)
        sys.modules.pop("own_module", None)
        importlib.invalidate_caches()
        return importlib.import_module("own_module")

    yield load
    sys.modules.pop("own_module", None)


class Network(nn.Module):
    def __init__(self, power=1):
        super().__init__()
        self.power = power

    def forward(self, samples, conditions):
        return samples[:, 0] ** self.power


@dataclass
class Settings:
    shift: float
    names: tuple = ()


class Judge(Reward):
    def __init__(self, scale=1.0, settings=None, table=None):
        self._scale, self.settings, self._table = scale, settings or Settings(0.0), table or {}
        self._loaded = None

    def __call__(self, samples, conditions):
        self._loaded = object()  # state, and no setting
        return self._scale * samples[:, 0] + self.settings.shift + self._table.get("a", 0.0)


def scaled(samples, conditions, by):
    return by * samples[:, 0]


def around(values):
    return lambda samples, conditions: samples[:, 0] * sum(values)


def times(by):
    return lambda samples, conditions: by * samples[:, 0]


def named(function):
    return CallableReward(function, name="reward")


PAIRS = {
    "lambda": lambda: (named(lambda x, c: x[:, 0]), named(lambda x, c: -x[:, 0])),
    "captured list": lambda: (named(around([1.0, 2.0])), named(around([1.0, 3.0]))),
    "captured number": lambda: (named(times(1.0)), named(times(-1.0))),
    "default": lambda: tuple(named(lambda x, c, k=k: k[0] * x[:, 0]) for k in ([1.0], [2.0])),
    "partial": lambda: tuple(named(functools.partial(scaled, by=by)) for by in (1.0, -1.0)),
    "attribute of a module": lambda: (named(Network(1)), named(Network(2))),
    "setting behind an underscore": lambda: (Judge(1.0), Judge(2.0)),
    "table behind an underscore": lambda: (Judge(table={"a": 1.0}), Judge(table={"a": 2.0})),
    "nested setting": lambda: (Judge(settings=Settings(0.0)), Judge(settings=Settings(1.0))),
    "method": lambda: (named(Judge(1.0).__call__), named(Judge(3.0).__call__)),
    "weights": lambda: tuple(WeightedSum([LinearReward(), LinearReward((0.0, 1.0))], [1.0, w]) for w in (1.0, -1.0)),
    "levels": lambda: tuple(Lexicographic([LinearReward()], [levels]) for levels in (10, 20)),
    "arguments": lambda: tuple(
        FunctionReward("tests.rejection.test_changed_rewards.scaled", {"by": by}) for by in (1.0, -1.0)
    ),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_a_changed_reward_is_refused_and_scored_anew_when_asked(setup, pair):
    (first, second), (again, _) = pair(), pair()
    assert setup.fill(first).drawn == 2 * DRAWS
    assert setup.fill(first).drawn == setup.fill(again).drawn == 0
    with pytest.raises(PoolMismatch, match=r"(?s) in the pool, .* now\n.*data\.rescore"):
        setup.fill(second)
    torch.testing.assert_close(setup.fill(first).round.rewards(first.name), setup.expected(first))  # nothing was lost
    filled = setup.fill(second, anew=True)
    assert filled.drawn == 0
    torch.testing.assert_close(filled.round.rewards(second.name), setup.expected(second))
    assert not torch.allclose(setup.expected(first), setup.expected(second), equal_nan=True)


EDITS = [
    ("SIGN = 1.0", "SIGN = -1.0", ["value of own_module.SIGN"]),
    ("return x + 0.25", "return x - 0.25", ["own_module.helped"]),
    ("WEIGHTS.append(2.0)", "WEIGHTS.append(3.0)", ["own_module.WEIGHTS"]),
    ("return self._scale *", "return -self._scale *", ["own_module.Own"]),
    ("scale=1.0", "scale=2.0", ["own_module.Own", "_scale"]),
]


@pytest.mark.parametrize(("old", "new", "names"), EDITS, ids=[old for old, *_ in EDITS])
def test_an_edited_class_is_refused_and_the_message_names_what_was_edited(setup, module, old, new, names):
    setup.fill(module().Own())
    edited = module(old, new).Own()
    with pytest.raises(PoolMismatch) as caught:
        setup.fill(edited)
    assert all(name in str(caught.value) for name in names)
    torch.testing.assert_close(setup.fill(edited, anew=True).round.rewards("Own"), setup.expected(edited))


def test_an_edited_function_is_named_too(setup, module):
    module()
    setup.fill(FunctionReward("own_module.own"))
    module("return x + 0.25", "return x - 0.25")
    with pytest.raises(PoolMismatch, match=r"evidence\.own_module\.helped: '\w{16}' in the pool, '\w{16}' now"):
        setup.fill(FunctionReward("own_module.own"))


def test_what_is_not_an_edit_is_none(setup, module):
    setup.fill(module().Own())
    for old, new in (
        ("helped(x):\n", "helped(x):\n    # adds\n"),
        ("class Own(", "def unused():\n    pass\n\n\nclass Own("),
    ):
        setup.fill(module(old, new).Own())


def test_old_scores_are_kept_under_a_name_of_their_own_and_taken_up_again(setup, caplog):
    first, second = LinearReward(), LinearReward((0.0, 1.0))
    setup.fill(first)
    with caplog.at_level(logging.INFO, "graft_lightning"):
        setup.fill(second, anew=True)
    (kept,) = set(TrajectoryPool.open(setup.folder).reward_fingerprints()) - {"linear"}
    assert kept in caplog.text
    assert kept.startswith("linear.")
    opened = TrajectoryPool.open(setup.folder).round(0)
    torch.testing.assert_close(opened.rewards(kept), setup.expected(first))
    torch.testing.assert_close(opened.rewards("linear"), setup.expected(second))
    before = first.scored
    back = setup.fill(first, anew=True)
    torch.testing.assert_close(back.round.rewards("linear"), setup.expected(first))
    assert first.scored == before + 2 + len(back.round)  # on trial, and by `expected`
    assert len(TrajectoryPool.open(setup.folder).reward_fingerprints()) == 2


class Crashes(Reward):
    def __init__(self, works=False):
        self.works = works

    def __call__(self, samples, conditions):
        if not self.works:
            raise RuntimeError("no such model")
        return samples[:, 0]


def test_a_reward_that_crashed_does_not_own_its_name(setup):
    with pytest.raises(SettingsError, match="Crashes failed for 2 samples: RuntimeError: no such model"):
        setup.fill(Crashes())
    assert TrajectoryPool.open(setup.folder).reward_fingerprints() == {}
    assert setup.fill(Crashes(works=True)).drawn == 2 * DRAWS


def test_nor_does_one_that_crashed_after_its_trial(setup, monkeypatch):
    monkeypatch.setattr("graft_lightning.rejection.scoring.try_rewards", lambda *arguments: None)
    with pytest.raises(RewardError, match="Crashes failed for 4 samples: RuntimeError: no such model"):
        setup.fill(Crashes())
    assert list(TrajectoryPool.open(setup.folder).reward_fingerprints()) == ["Crashes"]
    assert setup.fill(Crashes(works=True)).drawn == 0


def test_two_rewards_of_one_name_are_refused(setup):
    with pytest.raises(ValueError, match=r"two rewards are called 'linear'.*another name"):
        setup.fill(LinearReward(), LinearReward((0.0, 1.0)))
    sums = [WeightedSum([LinearReward()], [w], name=f"by-{w:g}") for w in (1.0, 2.0)]
    filled = setup.fill(*sums).round
    torch.testing.assert_close(2 * filled.rewards("by-1"), filled.rewards("by-2"))


class Rank(Reward):
    """The place of a sample in its group: another one in a group of another size."""

    groupwise = True

    def __call__(self, samples, conditions):
        found = torch.zeros(len(conditions))
        for text in set(conditions):
            rows = torch.tensor([c == text for c in conditions])
            found[rows] = samples[rows, 0].argsort().argsort().float()
        return found


def test_scores_of_groups_are_those_of_the_groups_that_are_asked_for(setup):
    for draws in (4, 2, 6, 4):
        ranks = setup.fill(Rank(), draws=draws).round.rewards("Rank")
        assert ranks.sort(dim=1).values.tolist() == [list(range(draws))] * 2
        torch.testing.assert_close(ranks, setup.expected(Rank(), draws))


def test_further_rewards_score_what_is_there(setup):
    setup.fill(draws=4)
    pool = TrajectoryPool.open(setup.folder)
    first, second = LinearReward(), LinearReward((0.0, 1.0))
    rescore(pool, setup.reference, [first], draws=2)
    assert first.scored == 2 + 2 * 2  # tried on two, and the first two draws of both conditions
    rescore(pool, setup.reference, [first])
    assert first.scored == 2 + 2 + 2 * 4
    torch.testing.assert_close(pool.round(0).rewards("linear"), setup.expected(first, 4))
    with pytest.raises(PoolMismatch, match="linear"):
        rescore(pool, setup.reference, [second])
    opened = rescore(pool, setup.reference, [second], anew=True)
    torch.testing.assert_close(opened.rewards("linear"), setup.expected(second, 4))
    with pytest.raises(SettingsError, match="shape"):
        rescore(pool, setup.reference, [CallableReward(lambda x, c: x, name="wrong")])
    assert "wrong" not in pool.reward_fingerprints()


def test_verdicts_of_a_person_are_a_column_like_others(setup):
    setup.fill(draws=4)
    pool = TrajectoryPool.open(setup.folder)
    pool.add_reward("by-eye", {"by": "hand"})
    opened = pool.round(0)
    verdicts = torch.tensor([[1.0, 0.0, float("nan"), 1.0], [0.0, 0.0, 1.0, 1.0]])
    opened.write_scores("by-eye", verdicts, known=torch.tensor([[True] * 4, [False] * 4]))
    assert opened.missing_rewards("by-eye")
    opened.write_scores("by-eye", verdicts, known=torch.tensor([[False] * 4, [True] * 4]))
    assert torch.equal(opened.rewards("by-eye").nan_to_num(9), verdicts.nan_to_num(9))
