"""Collection: the same pool whoever draws it, and nothing is drawn twice."""

from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.identity import describe
from graft_lightning.processes.grids import Leading
from graft_lightning.processes.noise import trajectory_seed
from graft_lightning.processes.samplers import DDIM, DDPM
from graft_lightning.rejection.acceptance import Always, BestOfN, Quantile, TopK
from graft_lightning.rejection.collect import Plan, draw, fill, kept_levels, shard_size, state_index
from graft_lightning.rejection.pool import KeptLevel, TrajectoryPool
from graft_lightning.rejection.reference import open_views
from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.selection import select
from tests.fakes import CONDITIONS, GaussianReference, LinearReward, Recorder, TinyReference

DRAWS = 6
STEPS = 4


class Setup:
    """A reference and a round of its pool: two conditions, six draws each, two kept levels."""

    def __init__(self, path, batch_size=4, reference=None, rewards=None, size=None, draws=DRAWS):
        self.reference = reference or GaussianReference(DDPM(STEPS))
        self.rewards = rewards or {"linear": LinearReward()}
        network = self.reference.build()
        self.denoiser = Recorder(open_views(self.reference, network).frozen)
        levels = kept_levels(self.reference, [0.25, 0.5])
        self.pool = TrajectoryPool.create(path, self.reference.fingerprint(network), 7)
        kept = {n: KeptLevel(t, 0.0) for n, t in levels.items()}
        size = size or shard_size(batch_size, draws, list(self.rewards.values()))
        self.round = self.pool.start_round(0, CONDITIONS, draws, kept, size, {"model": "reference"})
        for name, reward in self.rewards.items():
            self.pool.add_reward(name, describe(reward))
        self.plan = Plan(CONDITIONS, draws, levels, 7, 0, batch_size)

    def fill(self, rank=0, world=1):
        return fill(self.round, self.reference, self.denoiser, self.plan, self.rewards, "cpu", rank, world)

    def everything(self) -> TensorDict:
        return self.round.read(torch.arange(len(self.round)))


def files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.safetensors")}


def test_a_filled_round_holds_what_was_drawn(tmp_path):
    setup = Setup(tmp_path / "pool")
    assert setup.fill() == 2 * DRAWS
    assert setup.round.complete
    data = setup.everything()
    assert data["condition"].tolist() == [0] * DRAWS + [1] * DRAWS
    assert data["draw"].tolist() == [*range(DRAWS)] * 2
    assert data["seed"].tolist() == [trajectory_seed(7, 0, c, d) for c in CONDITIONS for d in range(DRAWS)]
    assert (data["key"] == -1).all()
    assert sorted(data["states"].keys()) == ["1", "2"]
    assert setup.denoiser.trajectories == 2 * DRAWS * STEPS
    scores = setup.round.rewards("linear")
    torch.testing.assert_close(scores.flatten(), data["x_0"][:, 0])
    assert setup.rewards["linear"].scored == 2 * DRAWS


def test_kept_states_lead_to_x_0(tmp_path):
    """The reference, resumed without noise from the kept states, ends at the stored samples."""
    setup = Setup(tmp_path / "pool", reference=GaussianReference(DDIM(STEPS)))
    setup.fill()
    data, reference = setup.everything(), setup.reference
    for n, level in setup.plan.keep.items():
        x, condition = data["states", str(n)], reference.encode([CONDITIONS[i] for i in data["condition"]], "cpu")
        found = reference.sampler.resume(setup.denoiser, reference.process, condition, None, x, level).x_0
        torch.testing.assert_close(found, data["x_0"])


def test_two_processes_make_the_pool_of_one(tmp_path):
    alone, shared = Setup(tmp_path / "one"), Setup(tmp_path / "two")
    alone.fill()
    counts = [shared.fill(rank, 2) for rank in (1, 0)]
    assert min(counts) > 0
    assert sum(counts) == 2 * DRAWS
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert len(files(tmp_path / "one")) == 2 * 3  # three shards of trajectories and of scores


@pytest.mark.parametrize("batch_size", [1, 3, 5, 100])
def test_batch_size_changes_nothing(tmp_path, batch_size):
    reference = TinyReference(DDPM(STEPS, clip_sample=2.0), guidance_scale=2.0)
    plain, other = Setup(tmp_path / "a", 4, reference), Setup(tmp_path / "b", batch_size, reference)
    plain.fill()
    other.fill()
    first, second = plain.everything(), other.everything()
    for name in ("condition", "draw", "seed", "key"):
        assert torch.equal(first[name], second[name])
    for name in ("x_0", ("states", "1"), ("states", "2")):
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-5)
    torch.testing.assert_close(plain.round.rewards("linear"), other.round.rewards("linear"), rtol=0, atol=1e-5)


def test_batches_may_be_smaller_than_shards(tmp_path):
    small, large = Setup(tmp_path / "a", 3, size=12), Setup(tmp_path / "b", 12, size=12)
    small.fill()
    large.fill()
    assert small.denoiser.levels.count(1000.0) == 4
    torch.testing.assert_close(small.everything()["x_0"], large.everything()["x_0"], rtol=0, atol=1e-5)


def test_a_filled_round_draws_and_scores_nothing(tmp_path):
    setup = Setup(tmp_path / "pool")
    setup.fill()
    again = Setup(tmp_path / "pool")
    assert again.fill() == 0
    assert again.denoiser.trajectories == 0
    assert again.rewards["linear"].scored == 0


def test_a_second_reward_later_draws_nothing(tmp_path):
    Setup(tmp_path / "pool").fill()
    both = {"linear": LinearReward(), "other": LinearReward((0.0, 1.0), "other")}
    later = Setup(tmp_path / "pool", rewards=both)
    assert later.fill() == 0
    assert later.denoiser.trajectories == 0
    assert (both["linear"].scored, both["other"].scored) == (0, 2 * DRAWS)
    torch.testing.assert_close(later.round.rewards("other").flatten(), later.everything()["x_0"][:, 1])


def test_a_lost_shard_is_made_again_and_nothing_else(tmp_path):
    setup = Setup(tmp_path / "pool")
    setup.fill()
    before, lost = files(tmp_path / "pool"), tmp_path / "pool" / "round-0000" / setup.round.shards[1].filename
    lost.unlink()
    again = Setup(tmp_path / "pool")
    assert again.fill() == 4
    assert again.denoiser.trajectories == 4 * STEPS
    assert files(tmp_path / "pool") == before


def test_a_round_begun_with_more_levels_is_finished_with_them(tmp_path):
    setup = Setup(tmp_path / "pool")
    setup.plan = replace(setup.plan, keep={1: setup.plan.keep[1]})
    setup.fill()
    assert sorted(setup.everything()["states"].keys()) == ["1", "2"]


def test_a_sweep_over_rules_and_hand_offs_draws_nothing(tmp_path):
    setup = Setup(tmp_path / "pool")
    setup.fill()
    evaluations, opened = setup.denoiser.trajectories, TrajectoryPool.open(tmp_path / "pool").round(0)
    seen = set()
    for rule in (TopK(1), TopK(3), BestOfN(2), Quantile(0.5), Always()):
        for n in (1, 2, "x_0"):
            selection = select(opened.rewards("linear"), opened.column("key"), opened.column("seed"), rule)
            indices = torch.cat(selection.members)
            states = opened.read(indices, ["x_0" if n == "x_0" else f"states/{n}"])
            seen.add((type(rule).__name__, len(states), n))
    assert len(seen) == 15
    assert setup.denoiser.trajectories == evaluations
    assert setup.rewards["linear"].scored == 2 * DRAWS


class Spread(Reward):
    """The distance from the mean of the group: only right if a group is whole."""

    groupwise = True

    def __call__(self, samples, conditions):
        groups = {text: samples[[c == text for c in conditions]] for text in conditions}
        assert all(len(group) == DRAWS for group in groups.values())
        return torch.stack([(x - groups[c].mean(0)).norm() for x, c in zip(samples, conditions, strict=True)])


def spread(x_0):
    groups = x_0.reshape(2, DRAWS, 2)
    return (groups - groups.mean(1, keepdim=True)).norm(dim=-1)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 12])
def test_a_groupwise_reward_sees_whole_groups(tmp_path, batch_size):
    setup = Setup(tmp_path / "pool", batch_size, rewards={"spread": Spread()})
    setup.fill()
    torch.testing.assert_close(setup.round.rewards("spread"), spread(setup.everything()["x_0"]))


def test_a_groupwise_reward_may_come_later_to_shards_that_cut_groups(tmp_path):
    Setup(tmp_path / "pool", 4).fill()
    later = Setup(tmp_path / "pool", 4, rewards={"spread": Spread()}, size=4)
    assert later.fill() == 0
    torch.testing.assert_close(later.round.rewards("spread"), spread(later.everything()["x_0"]))


class Wrong(Reward):
    def __call__(self, samples, conditions):
        return samples


def test_a_reward_of_the_wrong_shape_is_refused_by_name(tmp_path):
    setup = Setup(tmp_path / "pool", rewards={"Wrong": Wrong()})
    with pytest.raises(ValueError, match=r"reward Wrong returned shape \(4, 2\) for 4 samples"):
        setup.fill()


class Placed(Reward):
    """Notes where it is sent, and where the samples are that it scores."""

    def __init__(self):
        self.events = []

    def to(self, device):
        self.events.append(f"to {device}")
        return self

    def __call__(self, samples, conditions):
        self.events.append(f"scores on {samples.device}")
        return torch.zeros(len(conditions))


def test_a_reward_is_on_the_device_only_while_it_scores(tmp_path):
    """torch's device without memory stands for a GPU."""
    reward = Placed()
    setup = Setup(tmp_path / "pool", rewards={"placed": reward})
    fill(setup.round, setup.reference, setup.denoiser, setup.plan, {}, "cpu")
    assert reward.events == []
    fill(setup.round, setup.reference, setup.denoiser, setup.plan, setup.rewards, "meta")
    assert reward.events == ["to meta", *["scores on meta"] * 3, "to cpu"]


class Half(Reward):
    """NaN where x < -1 on the left; the same for every sample of the other condition."""

    def __call__(self, samples, conditions):
        x = torch.where(samples[:, 0] < -1, torch.nan, samples[:, 0])
        return torch.where(torch.tensor([text == "right" for text in conditions]), 1.0, x)


def test_nan_and_missing_signal_pass_through_the_pool(tmp_path):
    setup = Setup(tmp_path / "pool", rewards={"half": Half()})
    setup.fill()
    rewards = setup.round.rewards("half")
    nan = int(rewards.isnan().sum())
    assert 0 < nan < DRAWS - 1
    selection = select(rewards, setup.round.column("key"), setup.round.column("seed"), Always())
    assert selection.not_finite == nan
    assert selection.without_signal == [1]
    assert len(selection.members) == 1
    assert len(selection) == DRAWS - nan


class Keyed(GaussianReference):
    """Samples are alike if they lie in the same quadrant."""

    def decode(self, x_0):
        return x_0.sign()

    def keys(self, samples):
        return ((samples > 0).long() * torch.tensor([1, 2])).sum(1)


def test_keys_are_those_of_decoded_samples(tmp_path):
    setup = Setup(tmp_path / "pool", reference=Keyed(DDPM(STEPS)))
    setup.fill()
    data = setup.everything()
    assert torch.equal(data["key"], ((data["x_0"] > 0).long() * torch.tensor([1, 2])).sum(1))
    assert setup.round.rewards("linear").abs().eq(1).all()


def test_rounds_and_run_seeds_draw_other_samples():
    reference = GaussianReference(DDPM(STEPS))
    denoiser = open_views(reference, reference.build()).frozen
    plans = [Plan(CONDITIONS, 2, {}, seed, index, 4) for seed, index in ((0, 0), (1, 0), (0, 1))]
    drawn = [draw(reference, denoiser, plan, 0, 4, "cpu") for plan in plans]
    assert "states" not in drawn[0].keys()  # noqa: SIM118
    assert len({tuple(data["seed"].tolist()) for data in drawn}) == 3
    assert (drawn[0]["x_0"] - drawn[1]["x_0"]).abs().min() > 0
    assert torch.equal(draw(reference, denoiser, plans[0], 1, 3, "cpu")["seed"], drawn[0]["seed"][1:3])


class TestLevels:
    def test_fractions_count_steps_from_the_data(self):
        reference = GaussianReference(DDIM(40))
        assert kept_levels(reference, [0.75, 0.25, 0.0, 0.5]) == {10: 250.0, 20: 500.0, 30: 750.0}
        assert state_index(reference, 0.25) == 10

    def test_levels_are_those_of_the_samplers_grid(self):
        reference = GaussianReference(DDIM(50, grid=Leading()))
        assert kept_levels(reference, [0.5]) == {25: 482.0}

    @pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5])
    def test_a_fraction_outside_is_refused(self, fraction):
        with pytest.raises(ValueError, match=rf"handoff={fraction}.*\[0, 1\)"):
            state_index(GaussianReference(DDIM(40)), fraction)

    @pytest.mark.parametrize(("steps", "fraction", "largest"), [(10, 0.96, "0.9"), (4, 0.9, "0.75"), (1, 0.6, "0")])
    def test_a_fraction_that_leaves_no_step_is_refused(self, steps, fraction, largest):
        """N_I = N by rounding: nothing would be left to train."""
        with pytest.raises(ValueError, match=rf"handoff={fraction}.*nothing to train.*{largest}"):
            state_index(GaussianReference(DDIM(steps)), fraction)


def test_shards_hold_a_batch_or_whole_groups():
    assert shard_size(256, 32, [LinearReward()]) == 256
    assert shard_size(100, 32, [LinearReward(), Spread()]) == 128
    assert shard_size(10, 32, [Spread()]) == 32
