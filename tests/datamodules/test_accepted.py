from collections import Counter

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.datamodules import AcceptedTrajectories
from graft_lightning.domains.base import Texts
from graft_lightning.processes.noise import trajectory_seeds
from graft_lightning.rejection.acceptance import SoftAcceptance, TopK
from graft_lightning.rejection.accepted import AcceptedStream
from graft_lightning.rejection.pool import TrajectoryPool

TEXTS, DRAWS = ["a", "b", "c"], 6


@pytest.fixture
def filled(tmp_path):
    """A round whose states say which trajectory they belong to, and at which level."""
    pool = TrajectoryPool.create(tmp_path / "pool", {}, 0)
    kept_levels = {2: (0.2, 1.0), 4: (0.4, 0.0)}
    filled = pool.start_round(0, TEXTS, DRAWS, kept_levels, shard_size=5, fingerprint={})
    pool.add_reward("score", {})
    for shard in filled.missing():
        index = torch.arange(shard.start, shard.stop)
        texts, draws = [TEXTS[i // DRAWS] for i in index.tolist()], (index % DRAWS).tolist()
        states = {str(n): torch.stack([index, torch.full_like(index, n)], 1).float() for n in kept_levels}
        data = {
            "seed": trajectory_seeds(0, 0, texts, draws),
            "x_0": torch.stack([index, torch.zeros_like(index)], 1).float(),
            "states": TensorDict(states, batch_size=[len(index)]),
        }
        filled.write(shard, TensorDict(data, batch_size=[len(index)]))
        filled.write_rewards("score", shard, rewards()[index])
    return filled


def rewards() -> torch.Tensor:
    """Condition a has one draw that failed, c nothing to tell its draws apart."""
    return torch.tensor([0.1, float("nan"), 0.5, 0.3, 0.9, 0.2, *[0.4, 0.6, 0.1, 0.2, 0.3, 0.0], *[0.5] * 6])


def data_for(acceptance, **settings) -> AcceptedTrajectories:
    return AcceptedTrajectories(Texts(TEXTS), acceptance, "unused", batch_size=4, steps_per_epoch=6, seed=1, **settings)


def test_every_condition_equally_often_and_every_member_before_any_is_repeated(filled):
    data = data_for(TopK(3))
    data.use(filled, "score", 2)
    assert [sorted(m.tolist()) for m in data.selection.members] == [[2, 3, 4], [6, 7, 10]]
    batch = data.read(range(24))
    seen = batch.x[:, 0].int().tolist()
    assert set(Counter(batch.conditions).values()) == {12}
    assert Counter(seen) == dict.fromkeys([2, 3, 4, 6, 7, 10], 4)
    for condition in ("a", "b"):
        of_one = [number for number, text in zip(seen, batch.conditions, strict=True) if text == condition]
        assert all(len(set(of_one[i : i + 3])) == 3 for i in range(0, 12, 3))
    for start in range(0, 24, 2):  # in every shuffle of conditions, each once
        assert sorted(batch.conditions[start : start + 2]) == ["a", "b"]


def test_states_of_the_asked_level_belong_to_their_condition(filled):
    data = data_for(TopK(3))
    for state, n in ((2, 2), (4, 4), ("x_0", 0), (0, 0)):
        data.use(filled, "score", state)
        batch = data.read(range(8))
        assert (batch.x[:, 1] == n).all()
        assert [TEXTS[int(i) // DRAWS] for i in batch.x[:, 0]] == batch.conditions
        assert (batch.weight == 1).all()


def test_a_soft_rule_weights_the_loss_by_its_probability(filled):
    data = data_for(SoftAcceptance(TopK(2)))
    selection = data.use(filled, "score", "x_0")
    batch = data.read(range(40))
    probability = selection.probability.flatten()[batch.x[:, 0].long()]
    torch.testing.assert_close(batch.weight, probability.float())


def test_conditions_without_signal_stay_if_asked(filled):
    data = data_for(TopK(2), drop_without_signal=False)
    selection = data.use(filled, "score", "x_0")
    assert selection.without_signal == [2]
    assert len(selection.members) == 3
    assert "c" in data.read(range(3)).conditions


def test_another_round_is_shuffled_in_another_way(filled):
    data = data_for(TopK(3))
    data.use(filled, "score", 2)
    first = data.read(range(24)).x
    filled.index = 1
    data.use(filled, "score", 2)
    assert not torch.equal(data.read(range(24)).x, first)


def test_nothing_can_be_read_before_a_round_is_collected():
    with pytest.raises(RuntimeError, match="no round has been collected"):
        data_for(TopK(2)).read([0])


def test_a_loop_of_ones_own_sees_the_batches_of_lightning(filled):
    data = data_for(SoftAcceptance(TopK(2)))
    data.use(filled, "score", 2)
    theirs = list(data.train_dataloader())
    stream = AcceptedStream(filled, SoftAcceptance(TopK(2)), "score", 2, seed=1)
    ours = list(stream.batches(4, steps=6))
    assert len(ours) == len(theirs) == 6
    resumed = [*stream.batches(4, steps=2), *stream.batches(4, steps=4, start=2)]
    for batches in (ours, resumed):
        for own, other in zip(batches, theirs, strict=True):
            assert own.conditions == other.conditions
            for name in ("x", "seeds", "weight"):
                assert torch.equal(getattr(own, name), getattr(other, name))
    assert len({tuple(batch.seeds.tolist()) for batch in ours}) == 6


@pytest.mark.parametrize(("state", "level"), [(2, 0.2), (4, 0.4), ("x_0", 0.0), (0, 0.0)])
def test_a_stream_says_the_level_of_its_states(filled, state, level):
    assert AcceptedStream(filled, TopK(3), "score", state).level == level


@pytest.mark.parametrize("state", [3, "x_1", "2"])
def test_states_that_were_not_kept_are_refused(filled, state):
    with pytest.raises(ValueError, match=r"state=.* is not kept in the round; kept are \[2, 4\]"):
        AcceptedStream(filled, TopK(2), "score", state)
