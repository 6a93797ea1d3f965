"""Whole groups as a stream: every draw once a pass, rejected ones too; nothing of a group is torn apart."""

from collections import Counter

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.datamodules import AcceptedTrajectories
from graft_lightning.domains.base import Texts
from graft_lightning.processes.noise import trajectory_seeds
from graft_lightning.rejection.acceptance import SoftAcceptance, Threshold, TopK
from graft_lightning.rejection.grouped import GroupStream, group_size
from graft_lightning.rejection.objectives import DPO, RAFT, UnselectedBaseline
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.selection import select

TEXTS, DRAWS = ["a", "b", "c"], 6
REWARDS = torch.tensor([[0.1, torch.nan, 0.5, 0.3, 0.9, 0.2], [0.4, 0.6, 0.1, 0.2, 0.3, 0.0], [0.5] * 6])


@pytest.fixture
def filled(tmp_path):
    """A round whose states are their global index and the index of their level."""
    pool = TrajectoryPool.create(tmp_path / "pool", {}, 0)
    filled = pool.start_round(0, TEXTS, DRAWS, {2: (0.2, 1.0)}, shard_size=5, fingerprint={})
    pool.add_reward("score", {})
    for shard in filled.missing():
        index = torch.arange(shard.start, shard.stop)
        texts, draws = [TEXTS[i // DRAWS] for i in index.tolist()], (index % DRAWS).tolist()
        data = {
            "seed": trajectory_seeds(0, 0, texts, draws),
            "x_0": torch.stack([index, torch.zeros_like(index)], 1).float(),
            "states": TensorDict({"2": torch.stack([index, index * 0 + 2], 1).float()}, batch_size=[len(index)]),
        }
        filled.write(shard, TensorDict(data, batch_size=[len(index)]))
        filled.write_rewards("score", shard, REWARDS.flatten()[index])
    return filled


def selection_of(filled, rule):
    return select(filled.rewards("score"), filled.column("key"), filled.column("seed"), rule)


def stream_of(filled, size, rule=None, state=2, seed=1):
    selection = selection_of(filled, rule or TopK(3))
    return GroupStream(filled, selection, selection.relative, size, state, seed)


@pytest.mark.parametrize("size", [2, 3, 6])
def test_every_draw_of_a_condition_once_in_a_pass_in_groups_of_one_condition(filled, size):
    stream = stream_of(filled, size)
    groups = stream.read(range(24))
    index = groups.by_group(groups.x[:, 0].long())
    assert (index // DRAWS == index[:, :1] // DRAWS).all()
    assert Counter(index.flatten().tolist()) == dict.fromkeys(range(12), 2)  # c accepts nothing: no signal
    one = index[index[:, 0] < DRAWS].flatten()
    assert sorted(one[:DRAWS].tolist()) == sorted(one[DRAWS:].tolist()) == list(range(DRAWS))
    assert (groups.x[:, 1] == 2).all()
    assert [TEXTS[i // DRAWS] for i in groups.x[:, 0].long().tolist()] == groups.conditions
    assert stream.level == 0.2


def test_what_a_pass_leaves_over_never_makes_a_group_hold_a_draw_twice(filled):
    groups = stream_of(filled, 4).read(range(400))
    for group in groups.by_group(groups.x[:, 0]):
        assert len(set(group.tolist())) == 4
    assert set(groups.x[:, 0].long().tolist()) == set(range(12))


def test_rewards_and_weights_belong_to_their_draws(filled):
    groups = stream_of(filled, 3).read(range(24))
    for index, reward, weight in zip(groups.x[:, 0].long(), groups.rewards, groups.weight, strict=True):
        expected = REWARDS.flatten()[index]
        assert torch.equal(reward, expected) or (reward.isnan() and expected.isnan())
        assert weight == (2.0 if index in (2, 3, 4, 6, 7, 10) else 0.0)  # 3 of 6 are accepted


def test_weights_have_mean_one_within_every_condition_that_accepts(filled):
    for rule in (TopK(2), SoftAcceptance(TopK(2)), Threshold(0.35)):
        relative = selection_of(filled, rule).relative
        assert relative.mean(1)[:2] == pytest.approx(1.0)
        assert (relative[2] == 0).all()


def test_a_place_of_the_stream_is_a_function_of_its_number(filled):
    one, other = stream_of(filled, 3), stream_of(filled, 3)
    both = one.read(range(12))
    other.read(range(60, 66))
    later = other.read(range(6, 12))
    assert torch.equal(both.x[6:], later.x)
    assert torch.equal(both.seeds[6:], later.seeds)
    assert not torch.equal(stream_of(filled, 3, seed=2).read(range(12)).x, both.x)
    assert len(set(both.seeds.tolist())) == 12
    assert both.shared_seeds.tolist() == [seed for seed in both.seeds[::3].tolist() for _ in range(3)]


@pytest.mark.parametrize("positions", [range(1, 4), range(4), [0, 2, 1], [0, 1, 2, 6, 7]])
def test_groups_are_not_torn_apart(filled, positions):
    with pytest.raises(ValueError, match="whole groups"):
        stream_of(filled, 3).read(positions)


def test_what_cannot_be_streamed_is_refused(filled):
    with pytest.raises(ValueError, match=r"size=7: a group has 1 to 6"):
        stream_of(filled, 7)
    selection = selection_of(filled, TopK(3))
    with pytest.raises(ValueError, match="nothing to train on"):
        GroupStream(filled, selection, selection.relative * 0, 2)
    broken = selection.relative.clone()
    broken[0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of them not finite"):
        GroupStream(filled, selection, broken, 2)
    with pytest.raises(ValueError, match="kept are"):
        GroupStream(filled, selection, selection.relative, 2, state=3)


def test_draws_without_weight_are_left_out_where_asked_for(filled):
    """Also where conditions have different numbers of them: each has passes of its own."""
    selection = selection_of(filled, TopK(3))
    weights = torch.zeros(3, DRAWS)
    weights[0, [1, 4]], weights[1, [0, 2, 3, 5]] = 1.0, -1.0
    stream = GroupStream(filled, selection, weights, 2, 2, 1, weighted_only=True)
    groups = stream.read(range(16))
    index = groups.x[:, 0].long()
    assert Counter(index.tolist()) == {1: 4, 4: 4, 6: 2, 8: 2, 9: 2, 11: 2}
    assert (groups.by_group(index) // DRAWS == groups.by_group(index)[:, :1] // DRAWS).all()
    assert set(groups.weight.tolist()) == {1.0, -1.0}
    with pytest.raises(ValueError, match=r"size=3: a condition has 2 draws"):
        GroupStream(filled, selection, weights, 3, 2, 1, weighted_only=True)


def test_an_objective_may_fix_the_size_of_its_groups(filled):
    data = AcceptedTrajectories(Texts(TEXTS), TopK(3), "unused", batch_size=4, seed=1)
    data.use(filled, "score", 2, DPO())
    groups = data.read(range(8))
    assert groups.size == 2
    assert groups.by_group(groups.weight).sum(1).tolist() == [0.0] * 4
    assert set(groups.rewards.tolist()) == set(REWARDS[[0, 0, 1, 1], [4, 0, 1, 5]].tolist())
    data.use(filled, "score", 2, RAFT())
    assert set(data.read(range(8)).rewards.tolist()) == set(REWARDS[[0, 1], [4, 1]].tolist())
    with pytest.raises(ValueError, match=r"data.group=4: DPO is about groups of 2"):
        AcceptedTrajectories(Texts(TEXTS), TopK(3), "unused", batch_size=4, group=4).use(filled, "score", 2, DPO())
    with pytest.raises(ValueError, match=r"data.batch_size=3 is not divisible by 2"):
        AcceptedTrajectories(Texts(TEXTS), TopK(3), "unused", batch_size=3).use(filled, "score", 2, DPO())


@pytest.mark.parametrize(("batch", "draws", "size"), [(64, 32, 32), (64, 256, 64), (64, 50, 32), (6, 5, 3), (7, 5, 1)])
def test_a_group_is_as_large_as_batch_and_pool_allow(batch, draws, size):
    assert group_size(batch, draws) == size


def test_the_data_of_lightning_stream_groups_where_an_objective_asks_for_them(filled):
    data = AcceptedTrajectories(Texts(TEXTS), TopK(3), "unused", batch_size=4, seed=1, group=2)
    selection = data.use(filled, "score", 2, UnselectedBaseline())
    groups = data.read(range(8))
    assert groups.size == 2
    assert set(groups.weight.tolist()) <= {0.0, 2.0}
    assert selection.acceptance_rate == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match=r"data.group=3 does not divide data.batch_size=4"):
        AcceptedTrajectories(Texts(TEXTS), TopK(3), "unused", batch_size=4, group=3)
