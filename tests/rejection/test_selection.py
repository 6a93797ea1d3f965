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
    torch.testing.assert_close(selection.weights[0], weights / weights.mean())
    torch.testing.assert_close(selection.share[0], weights)
    assert selection.acceptance_rate == pytest.approx(float(weights.mean()))
    assert selection.mean_reward() == pytest.approx((-1.0, float((weights * rewards[0]).sum() / weights.sum())))


SOFT = SoftAcceptance(ClassicalRejection(1.0, 1.5))


def two_conditions(draws, seed):
    """Rewards N(1, 0.5^2) and N(-3, 0.5^2): mean acceptances .6 and .013 at temperature 1, ceiling 1.5."""
    noise = torch.randn(2, draws, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.tensor([[1.0], [-3.0]], dtype=torch.float64) + 0.5 * noise


def weight_of_conditions(selection, draws):
    """The share of the training weight that each condition gets: drawn alike, times the mean weight of its members."""
    weight = torch.zeros(2, dtype=torch.float64)
    for members, weights in zip(selection.members, selection.weights, strict=True):
        weight[int(members[0]) // draws] = weights.mean()
    return (weight / weight.sum()).tolist()


def test_soft_acceptance_leaves_the_conditions_their_weight():
    """At 64 draws a hard decision accepts nothing of the second condition in 44 % of the rounds; else both agree."""
    both, rounds = 0, 100
    for seed in range(rounds):
        rewards, keys = two_conditions(64, seed), torch.full((2, 64), -1)
        seeds = torch.stack([trajectory_seeds(seed, 0, [text] * 64, range(64)) for text in ("a", "b")])
        soft, hard = (select(rewards, keys, seeds, rule) for rule in (SOFT, SOFT.rule))
        assert weight_of_conditions(soft, 64) == pytest.approx([0.5, 0.5])
        if len(hard.members) == 2:
            both += 1
            assert weight_of_conditions(hard, 64) == pytest.approx([0.5, 0.5])
    accepted = math.exp(-3 - 1.5 + 0.125)
    expected = 1 - (1 - accepted) ** 64
    assert both / rounds == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / rounds))


def test_soft_and_hard_agree_in_the_limit_of_many_draws():
    """Of N(m, 0.5^2) the tilt exp(r) moves the mean by 0.25; in the first condition the ceiling stops a part of it."""
    rewards = two_conditions(15_000, 7)
    soft, hard = chosen(rewards, SOFT), chosen(rewards, SOFT.rule)
    (_, second), (first_of_hard, second_of_hard) = soft.means(rewards).tolist(), hard.means(rewards).tolist()
    assert second == pytest.approx(-2.75, abs=0.03)
    assert second_of_hard == pytest.approx(-2.75, abs=5 * 0.5 / math.sqrt(0.0126 * 15_000))
    assert soft.means(rewards)[0] == pytest.approx(first_of_hard, abs=0.02)
    assert soft.acceptance_rate == pytest.approx(hard.acceptance_rate, rel=0.03)
    assert soft.mean(rewards) == pytest.approx((first_of_hard - 2.75) / 2, abs=0.03)


def test_any_value_is_averaged_with_the_conditions_alike():
    rewards = torch.tensor([[0.0, -1.0, -2.0], [-5.0, -4.0, -6.0]])
    values = torch.tensor([[1.0, 2.0, NAN], [10.0, 20.0, 30.0]])
    selection = chosen(rewards, SoftAcceptance(ClassicalRejection(1.0, 0.0)))
    weight = rewards.double().exp()
    first = (weight[0, 0] * 1 + weight[0, 1] * 2) / (weight[0, 0] + weight[0, 1])
    second = (weight[1] * values[1]).sum() / weight[1].sum()
    torch.testing.assert_close(selection.means(values), torch.stack([first, second]))
    assert selection.mean(values) == pytest.approx(float(first + second) / 2)
    nothing = selection.means(torch.full((2, 3), NAN))
    assert nothing.isnan().all()


def test_of_a_hard_decision_the_mean_is_over_members_and_conditions_alike():
    selection = chosen([[0.0, 5.0, 6.0], [5.5, 1.0, 2.0], [0.0, 1.0, 2.0]], Threshold(4.0))
    values = torch.arange(9.0).reshape(3, 3)
    assert selection.mean(values) == pytest.approx((1.5 + 3.0) / 2)
    assert selection.means(values)[2].isnan()


def test_what_the_mean_rises_from_is_that_of_the_conditions_that_accepted_any():
    """The second condition lies far below and accepts nothing: its level is no gain of the first."""
    selection = chosen([[1.0, 2.0, NAN], [-5.0, -6.0, -7.0]], Threshold(1.5))
    assert selection.mean_before(selection.rewards) == 1.5
    assert selection.mean_reward() == (-2.25, 2.0)
    held_out = torch.tensor([[0.2, 0.4, 0.6], [9.0, 9.0, 9.0]])
    assert selection.mean_before(held_out) == pytest.approx(0.4)
    every = chosen([[1.0, 2.0, 4.0], [5.0, 6.0, 7.0]], Always())
    assert every.mean_before(every.rewards) == pytest.approx(every.mean(every.rewards))


def test_effective_sample_size_by_hand():
    """Shares of training (1/2, 1/2) and (1/4, 3/4) within two conditions; of equal weights it is their number."""
    rule = SoftAcceptance(ClassicalRejection(1.0, 0.0))
    selection = chosen([[0.0, 0.0, NAN], [math.log(0.25), math.log(0.75), NAN]], rule, drop_without_signal=False)
    assert selection.effective_sample_size == pytest.approx(4 / (1 / 2 + 1 / 16 + 9 / 16))
    assert chosen([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], TopK(2)).effective_sample_size == pytest.approx(4)
    # conditions alike: the two members of the first count no more than the only one of the second
    assert chosen([[5.0, 6.0, 0.0], [5.0, 1.0, 0.0]], Threshold(4.0)).effective_sample_size == pytest.approx(4 / 1.5)


def test_a_spread_over_equal_weights_takes_each_member_once():
    selection = chosen([[0.1, 0.9, 0.5], [3.0, 1.0, 2.0]], TopK(2))
    taken, before = selection.spread(4)
    assert taken.tolist() == [1, 2, 3, 5]
    assert before.tolist() == [0, 0, 0, 0]
    assert [index // 3 for index in selection.spread(2)[0].tolist()] == [0, 1]


def test_a_spread_takes_conditions_alike_and_members_by_weight():
    """Weights 1 : 3 in one condition, a single member in the other."""
    rewards = [[math.log(0.2), math.log(0.6), NAN], [NAN, 0.0, NAN]]
    rule = SoftAcceptance(ClassicalRejection(1.0, 0.0))
    selection = chosen(rewards, rule, drop_without_signal=False)
    taken, before = selection.spread(8)
    assert taken.tolist() == [0, 1, 1, 1, 4, 4, 4, 4]
    assert before.tolist() == [0, 0, 1, 2, 0, 1, 2, 3]
    many = chosen(two_conditions(64, 1), SOFT)
    flat = many.rewards.flatten()
    assert float(flat[many.spread(20_000)[0]].mean()) == pytest.approx(many.mean_reward()[1], abs=1e-3)


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
