"""Selection from a round: members, weights, conditions without signal, rewards that are no numbers."""

import math

import pytest
import torch

from graft_lightning.processes.noise import trajectory_seeds
from graft_lightning.rejection.acceptance import Always, BestOfN, ClassicalRejection, SoftAcceptance, Threshold, TopK
from graft_lightning.rejection.selection import decision_uniforms, select

NAN = math.nan


def seeds_of(conditions, draws):
    return torch.stack([trajectory_seeds(0, 0, [str(c)] * draws, range(draws)) for c in range(conditions)])


def chosen(rewards, rule, **settings):
    rewards = torch.tensor(rewards) if isinstance(rewards, list) else rewards
    keys = torch.full(rewards.shape, -1)
    return select(rewards, keys, seeds_of(*rewards.shape), rule, **settings)


def test_members_are_global_indices_by_condition():
    selection = chosen([[0.1, 0.9, 0.5], [3.0, 1.0, 2.0]], TopK(2))
    assert [members.tolist() for members in selection.members] == [[1, 2], [3, 5]]
    assert [weights.tolist() for weights in selection.weights] == [[1.0, 1.0], [1.0, 1.0]]
    assert selection.accepted.tolist() == [[False, True, True], [True, False, True]]
    assert len(selection) == 4
    assert selection.acceptance_rate == pytest.approx(2 / 3)
    assert selection.mean_reward() == pytest.approx((1.25, (0.7 + 2.5) / 2))


def test_conditions_that_accept_nothing_have_no_place_in_the_stream():
    selection = chosen([[0.0, 1.0], [5.0, 6.0], [-1.0, 0.5]], Threshold(4.0))
    assert [members.tolist() for members in selection.members] == [[2, 3]]
    before, after = selection.mean_reward()
    assert before == pytest.approx((0.5 + 5.5 - 0.25) / 3)
    assert after == pytest.approx(5.5)


def test_conditions_without_signal_are_reported_and_dropped():
    rewards = [[1.0, 1.0, 1.0], [0.0, 1.0, 2.0], [NAN, 2.0, 2.0], [NAN, NAN, NAN]]
    selection = chosen(rewards, TopK(1))
    assert selection.without_signal == [0, 2, 3]
    assert [members.tolist() for members in selection.members] == [[5]]
    kept = chosen(rewards, TopK(1), drop_without_signal=False)
    assert kept.without_signal == [0, 2, 3]
    assert [len(members) for members in kept.members] == [1, 1, 1]
    assert kept.accepted[3].sum() == 0


def test_a_single_draw_per_condition_is_not_dropped():
    selection = chosen([[1.0], [2.0]], Always())
    assert len(selection) == 2


@pytest.mark.parametrize(
    "rule",
    [TopK(4), BestOfN(), Always(), Threshold(-9.0), ClassicalRejection(1.0, -5.0)],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_finite_is_counted_and_never_accepted(rule):
    rewards = torch.tensor([[NAN, 1.0, math.inf, 2.0], [0.0, -math.inf, 3.0, NAN]])
    selection = chosen(rewards, rule)
    assert selection.not_finite == 4
    assert not selection.accepted[~rewards.isfinite()].any()
    assert selection.accepted[rewards.isfinite()].any()
    assert (selection.probability[~rewards.isfinite()] == 0).all()
    before, after = selection.mean_reward()
    assert math.isfinite(before)
    assert math.isfinite(after)


def test_soft_acceptance_weighs_with_the_probability():
    rewards = torch.tensor([[0.0, -1.0, -2.0]])
    selection = chosen(rewards, SoftAcceptance(ClassicalRejection(1.0, 0.0)))
    assert selection.members[0].tolist() == [0, 1, 2]
    weights = rewards[0].double().exp()
    torch.testing.assert_close(selection.weights[0], weights)
    assert selection.mean_reward() == pytest.approx((-1.0, float((weights * rewards[0]).sum() / weights.sum())))


def test_nothing_accepted_is_refused_and_counted():
    with pytest.raises(ValueError, match=r"Threshold accepted none of 6 .*\(1 rewards not finite, 1 of 2 conditions"):
        chosen([[1.0, 1.0, 1.0], [0.0, NAN, 2.0]], Threshold(9.0))
    with pytest.raises(ValueError, match="accepted none"):
        chosen([[1.0, 1.0]], TopK(1))


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"k=3.*M=2"):
        chosen([[1.0, 2.0]], TopK(3))


def test_decisions_belong_to_the_trajectory():
    """Whatever the rest of the round, and independent of what the trajectory drew while it was sampled."""
    seeds = seeds_of(3, 4)
    uniforms = decision_uniforms(seeds)
    assert uniforms.shape == (3, 4)
    assert uniforms.dtype == torch.float64
    assert torch.equal(decision_uniforms(seeds[1:, 2:]), uniforms[1:, 2:])
    many = decision_uniforms(seeds_of(2, 2000))
    assert abs(many.mean() - 0.5) < 5 * (1 / 12 / 4000) ** 0.5
    assert abs(many.var() - 1 / 12) < 5 * (1 / 180 / 4000) ** 0.5


def test_bernoulli_decisions_have_their_frequency():
    rewards = torch.linspace(-3, 0, 4000).reshape(2, 2000)
    selection = chosen(rewards, ClassicalRejection(1.0, 0.0))
    expected = rewards.double().exp()
    spread = (expected * (1 - expected)).sum() ** 0.5
    assert abs(len(selection) - expected.sum()) < 5 * spread
