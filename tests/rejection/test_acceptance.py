"""Acceptance rules against the closed forms of E[A | x] (the table under Eq. 5), and the conventions under Eq. 4."""

import math

import pytest
import torch
from torch import Tensor

from graft_lightning.rejection.acceptance import (
    Acceptance,
    Always,
    BestOfN,
    BinaryDeduplicated,
    Chain,
    ClassicalRejection,
    Deduplicated,
    Preference,
    Quantile,
    RandomK,
    SoftAcceptance,
    Threshold,
    TopK,
)
from graft_lightning.rejection.acceptance.groups import copies, finite_rewards
from graft_lightning.rejection.acceptance.uniforms import fresh_uniforms
from graft_lightning.rejection.implied import (
    expected_acceptance_best_of_n,
    expected_acceptance_deduplicated,
    expected_acceptance_quantile,
    expected_acceptance_top_k,
    implied,
)

GROUPS = 50_000
SIGMAS = 5.0
"""A Monte Carlo frequency may be off by five binomial standard errors, plus one count where p is 0 or 1."""

MASSES = torch.tensor([0.35, 0.3, 0.2, 0.15], dtype=torch.float64)
VALUES = torch.tensor([-1.0, 0.0, 0.5, 2.0], dtype=torch.float64)
CDF = MASSES.cumsum(0).clamp(max=1)
BELOW = CDF - MASSES

RULES = [
    TopK(3),
    BestOfN(),
    BestOfN(2),
    Threshold(0.1),
    Quantile(0.7),
    ClassicalRejection(1.0, 1.5),
    Preference(0.7),
    Deduplicated(TopK(2)),
    Deduplicated(Always()),
    Always(),
    RandomK(3),
    Chain([Threshold(-0.5), TopK(2)]),
    Chain([ClassicalRejection(1.0, 1.5), TopK(2)]),
    Chain([Preference(0.7), Deduplicated(Always())]),
]


def name(rule: Acceptance) -> str:
    return "+".join(map(name, rule.rules)) if isinstance(rule, Chain) else type(rule).__name__


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniforms(shape: torch.Size | tuple[int, ...], seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=generator(seed), dtype=torch.float64)


def atoms(groups: int, draws: int, seed: int = 0) -> Tensor:
    """Indices of values of the discrete distribution, ``(groups, draws)``."""
    return torch.multinomial(MASSES, groups * draws, replacement=True, generator=generator(seed)).reshape(groups, draws)


def gaussian(groups: int, draws: int, seed: int = 0) -> Tensor:
    return torch.randn(groups, draws, generator=generator(seed), dtype=torch.float64)


def assert_frequency(hits: Tensor, expected: float) -> None:
    """Independent hits (0/1) have the expected frequency."""
    n = hits.numel()
    assert n > 500, "too few events to say anything"
    tolerance = SIGMAS * math.sqrt(expected * (1 - expected) / n) + 1 / n
    assert abs(float(hits.double().mean()) - expected) <= tolerance, (float(hits.double().mean()), expected, tolerance)


def assert_frequencies_on_atoms(rule: Acceptance, draws: int, expected: Tensor) -> None:
    """In every place, the frequency of acceptance given the value, and the mean probability, are E[A | x].

    Groups are independent but draws of one group are not, so that places are looked at one by one.
    """
    index = atoms(GROUPS, draws)
    decision = rule.decide(VALUES[index], index, uniforms(index.shape))
    for place in range(draws):
        for value, form in enumerate(expected.tolist()):
            at = index[:, place] == value
            assert_frequency(decision.accepted[at, place], form)
            # A in [0, 1] with mean p has at most the variance of a Bernoulli draw
            tolerance = SIGMAS * math.sqrt(form * (1 - form) / int(at.sum())) + 1e-12
            assert abs(float(decision.probability[at, place].mean()) - form) <= tolerance


# closed forms on a discrete space with atoms


@pytest.mark.parametrize("k", [2, 5])
def test_top_k_with_atoms(k):
    assert_frequencies_on_atoms(TopK(k), 5, expected_acceptance_top_k(CDF, 5, k, BELOW))


def test_best_of_n_with_atoms():
    expected = (CDF**3 - BELOW**3) / (3 * MASSES)
    assert torch.allclose(expected_acceptance_best_of_n(CDF, 3, BELOW), expected)
    assert_frequencies_on_atoms(BestOfN(), 3, expected)
    assert_frequencies_on_atoms(BestOfN(3), 6, expected)


def test_threshold_with_atoms():
    assert_frequencies_on_atoms(Threshold(0.5), 2, torch.tensor([0.0, 0.0, 1.0, 1.0]))


@pytest.mark.parametrize("q", [0.0, 0.5, 0.6, 1.0])
def test_quantile_with_atoms(q):
    assert_frequencies_on_atoms(Quantile(q), 5, expected_acceptance_quantile(CDF, 5, q))


def test_classical_rejection_on_atoms():
    expected = ((VALUES - 1.0) / 0.8).exp().clamp(max=1)
    assert_frequencies_on_atoms(ClassicalRejection(0.8, 1.0), 2, expected)


def test_preference_on_atoms():
    chance = ((VALUES.unsqueeze(1) - VALUES) / 0.7).sigmoid()
    assert_frequencies_on_atoms(Preference(0.7), 4, chance @ MASSES)


def test_binary_deduplication():
    """r (1 - (1 - p)^M) / (M p): the reward is a function of x, the key is x."""
    index = atoms(GROUPS, 5)
    reward = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    decision = BinaryDeduplicated().decide(reward[index], index, uniforms(index.shape))
    expected = reward * (1 - (1 - MASSES) ** 5) / (5 * MASSES)
    assert torch.allclose(expected_acceptance_deduplicated(MASSES, 5, reward), expected)
    for place in range(5):
        for x, form in enumerate(expected.tolist()):
            assert_frequency(decision.accepted[index[:, place] == x, place], form)


def test_random_k_ignores_the_reward():
    assert_frequencies_on_atoms(RandomK(2), 5, torch.full((4,), 0.4))


def test_chain_is_conditional_on_what_came_before():
    """Best of two after a coin: enumerated over both draws and both coins."""
    coin = ((VALUES - 1.0) / 0.8).exp().clamp(max=1)
    better = (VALUES.unsqueeze(1) > VALUES).double() + 0.5 * (VALUES.unsqueeze(1) == VALUES).double()
    expected = coin * ((1 - coin) * MASSES + better * coin * MASSES).sum(1)
    rule = Chain([ClassicalRejection(0.8, 1.0), TopK(1)])
    index = atoms(GROUPS // 2, 2)
    decision = rule.decide(VALUES[index], None, uniforms(index.shape))
    for place in range(2):
        for value, form in enumerate(expected.tolist()):
            at = index[:, place] == value
            assert_frequency(decision.accepted[at, place], form)
            # of coins of known probability: a mean over 256 simulated ones, other numbers in every group
            error = SIGMAS * math.sqrt((0.031**2 + form * (1 - form)) / int(at.sum()))
            assert float(decision.probability[at, place].mean()) == pytest.approx(form, abs=error)


def test_stages_of_a_chain_draw_independently():
    """Two coins of 1/2 make 1/4; the same uniform used twice would make 1/2. Nesting repeats no stream either."""
    half = ClassicalRejection(1.0, math.log(2.0))
    rewards = torch.zeros(GROUPS, 1)
    for rule, share in [
        (Chain([half, half]), 1 / 4),
        (Chain([Chain([half, half]), half]), 1 / 8),
        (Chain([half, Chain([half, half])]), 1 / 8),
        (Chain([Deduplicated(half), half]), 1 / 4),
    ]:
        decision = rule.decide(rewards, None, uniforms(rewards.shape))
        assert torch.allclose(decision.probability, torch.tensor(share, dtype=torch.float64))
        assert_frequency(decision.accepted, share)


def test_deduplication_draws_copies_and_rule_independently():
    """Two copies, then a coin of 1/2: each copy in 1/4 of the groups, and never both."""
    rule = Deduplicated(ClassicalRejection(1.0, math.log(2.0)))
    decision = rule.decide(torch.zeros(GROUPS, 2), torch.ones(GROUPS, 2, dtype=torch.int64), uniforms((GROUPS, 2)))
    assert torch.allclose(decision.probability, torch.tensor(0.25, dtype=torch.float64))
    assert_frequency(decision.accepted[:, 0], 0.25)
    assert_frequency(decision.accepted.any(1), 0.5)
    assert not decision.accepted.all(1).any()


def test_fresh_uniforms_are_uniform_and_independent():
    u = uniforms((200_000,))
    streams = [u, *(fresh_uniforms(u, stream) for stream in range(3)), fresh_uniforms(fresh_uniforms(u, 0), 0)]
    cells = 8
    for i, first in enumerate(streams):
        assert ((first >= 0) & (first < 1)).all()
        for second in streams[i + 1 :]:
            joint = torch.bincount(
                (first * cells).long() * cells + (second * cells).long(), minlength=cells**2
            ).double()
            per_cell = len(u) / cells**2
            chi2 = float(((joint - per_cell) ** 2 / per_cell).sum())
            freedom = cells**2 - 1
            assert abs(chi2 - freedom) < SIGMAS * math.sqrt(2 * freedom)


# closed forms for continuous rewards: the first draw's reward is fixed, the others are Gaussian


def acceptance_at(rule: Acceptance, reward: float, draws: int) -> Tensor:
    rewards = gaussian(GROUPS, draws)
    rewards[:, 0] = reward
    return rule.decide(rewards, None, uniforms(rewards.shape)).accepted[:, 0]


@pytest.mark.parametrize("reward", [-0.5, 0.4, 1.2])
def test_ranks_on_gaussian_rewards(reward):
    cdf = torch.special.ndtr(torch.tensor(reward, dtype=torch.float64))
    draws, k = 10, 3
    top_k = sum(math.comb(draws - 1, j) * (1 - cdf) ** j * cdf ** (draws - 1 - j) for j in range(k))
    assert_frequency(acceptance_at(TopK(k), reward, draws), float(top_k))
    assert_frequency(acceptance_at(BestOfN(), reward, 4), float(cdf**3))
    assert_frequency(acceptance_at(BestOfN(4), reward, 8), float(cdf**3))
    reach = sum(math.comb(draws - 1, j) * cdf**j * (1 - cdf) ** (draws - 1 - j) for j in range(6, draws))
    assert_frequency(acceptance_at(Quantile(0.7), reward, draws), float(reach))
    nodes = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    density = (-(nodes**2) / 2).exp() / math.sqrt(2 * math.pi)
    preferred = torch.trapezoid(((reward - nodes) / 0.5).sigmoid() * density, nodes)
    assert_frequency(acceptance_at(Preference(0.5), reward, 2), float(preferred))


@pytest.mark.parametrize(("mean", "sd", "slope"), [(0.0, 1.0, 1.0), (-2.0, 0.5, 3.0)])
def test_classical_rejection_recovers_the_tilted_gaussian(mean, sd, slope):
    """N(m, s^2) with r = a x, alpha = sd of r, c = mean of r + 4 sd of r: Eq. 5 is N(m + a s^2 / alpha, s^2).

    The ceiling removes mass above 4 sd, 1.3e-3 of the tilted distribution: that moves the mean by less than 1e-3 s
    and the variance by less than 4e-3 s^2.
    """
    x = mean + sd * gaussian(1000, 2000)
    rewards = slope * x
    temperature, ceiling = slope * sd, slope * mean + 4 * slope * sd
    rule = ClassicalRejection(temperature, ceiling)
    accepted = x[rule.decide(rewards, None, uniforms(x.shape)).accepted]
    n = len(accepted)
    assert n == pytest.approx(x.numel() * math.exp(-4 + 0.5), rel=0.02)
    error = (accepted.mean() - (mean + slope * sd**2 / temperature)) / sd
    assert abs(float(error)) < SIGMAS / math.sqrt(n) + 1e-3
    assert abs(float(accepted.var() / sd**2) - 1) < SIGMAS * math.sqrt(2 / n) + 4e-3
    above = rule.diagnostics(rewards)["share_above_ceiling"]
    assert above == pytest.approx(3.17e-5, abs=SIGMAS * math.sqrt(3.17e-5 / x.numel()))


def test_ceiling_of_classical_rejection_is_a_cap():
    rule = ClassicalRejection(2.0, 1.0)
    probability = rule.probability(torch.tensor([[1.0, 5.0, -1.0]]))
    assert torch.allclose(probability, torch.tensor([[1.0, 1.0, math.exp(-1.0)]], dtype=torch.float64))
    assert rule.diagnostics(torch.tensor([[1.0, 5.0, torch.nan, -1.0]])) == {"share_above_ceiling": 1 / 3}


# exact numbers


@pytest.mark.parametrize("rule", [TopK(4), RandomK(4)], ids=name)
def test_exactly_k_or_all_finite(rule):
    rewards = VALUES[atoms(500, 9)].clone()
    rewards[gaussian(500, 9) > 0.2] = torch.nan
    finite = rewards.isfinite().sum(1)
    assert (finite < 4).any()
    assert (finite > 4).any()
    accepted = rule.decide(rewards, None, uniforms(rewards.shape)).accepted
    assert torch.equal(accepted.sum(1), finite.clamp(max=4))


def test_top_k_accepts_the_best_and_resolves_ties_by_the_lowest_uniform():
    rewards = torch.tensor([[1.0, 3.0, 1.0, 0.0, 1.0, math.nan]])
    u = torch.tensor([[0.5, 0.9, 0.4, 0.0, 0.6, 0.0]])
    decision = TopK(3).decide(rewards, None, u)
    assert decision.accepted.tolist() == [[True, True, True, False, False, False]]
    third = 2 / 3
    assert decision.probability.tolist() == [[pytest.approx(p) for p in (third, 1, third, 0, third, 0)]]
    assert torch.equal(decision.weight, decision.accepted.double())


def test_best_of_n_accepts_one_per_block():
    rewards = VALUES[atoms(300, 12)]
    accepted = BestOfN(4).decide(rewards, None, uniforms(rewards.shape)).accepted
    assert (accepted.reshape(300, 3, 4).sum(-1) == 1).all()
    assert (rewards[accepted] == rewards.reshape(300, 3, 4).amax(-1).flatten()).all()


def test_preference_accepts_one_per_pair():
    rewards = VALUES[atoms(1000, 6)].clone()
    rewards[gaussian(1000, 6) > 1] = torch.inf
    accepted = Preference(0.5).decide(rewards, None, uniforms(rewards.shape)).accepted
    finite = rewards.isfinite().reshape(1000, 3, 2).sum(-1)
    assert set(finite.unique().tolist()) == {0, 1, 2}
    assert torch.equal(accepted.reshape(1000, 3, 2).sum(-1), finite.clamp(max=1))


def test_preference_at_extreme_rewards_and_uniforms():
    rewards = torch.tensor([[1e300, -1e300], [0.0, 0.0], [5.0, math.nan], [math.nan, math.nan]], dtype=torch.float64)
    decision = Preference(1e-10).decide(rewards, None, torch.zeros(4, 2))
    assert decision.probability.tolist() == [[1, 0], [0.5, 0.5], [1, 0], [0, 0]]
    assert decision.accepted.sum(1).tolist() == [1, 1, 1, 0]
    assert decision.accepted[[0, 2], 0].all()


def test_exactly_one_copy_of_each():
    keys = torch.randint(0, 4, (500, 10), generator=generator())
    rewards = (keys != 2).double()
    accepted = BinaryDeduplicated().decide(rewards, keys, uniforms(keys.shape)).accepted
    for x in range(4):
        present = (keys == x).any(1) if x != 2 else torch.zeros(500, dtype=torch.bool)
        assert torch.equal((accepted & (keys == x)).sum(1), present.long())


def test_draws_without_a_key_are_copies_of_nothing():
    keys = torch.tensor([[-1, -1, 7, 7, -5, -5]])
    probability = BinaryDeduplicated().probability(torch.ones(1, 6), keys)
    assert probability.tolist() == [[1, 1, 0.5, 0.5, 0.5, 0.5]]
    assert BinaryDeduplicated().probability(torch.ones(1, 6)).tolist() == [[1] * 6]


def test_only_finite_draws_count_as_copies():
    keys = torch.full((1, 4), 3)
    rewards = torch.tensor([[1.0, math.nan, 1.0, math.inf]])
    assert BinaryDeduplicated().probability(rewards, keys).tolist() == [[0.5, 0, 0.5, 0]]


def test_what_is_not_finite_is_a_copy_of_nothing():
    values, finite = finite_rewards(torch.tensor([[1.0, math.nan, math.nan, math.nan, 1.0]]))
    assert copies(values, finite, torch.tensor([[3, 3, 4, -1, 3]]))[0].tolist() == [[2, 0, 0, 0, 2]]
    assert copies(values, finite, None)[0].tolist() == [[1, 0, 0, 0, 1]]


def test_the_best_copy_stands_for_its_key():
    """Of a key coarser than the reward, the lower draws are never accepted and take no share."""
    keys = torch.tensor([[1, 1, 1, 2, -1]])
    rewards = torch.tensor([[5.0, 4.0, 5.0, 3.0, 1.0]])
    assert Deduplicated(TopK(2)).probability(rewards, keys).tolist() == [[0.5, 0, 0.5, 1, 0]]
    binary = torch.tensor([[1.0, 0.0, 1.0, 0.0, 1.0]])
    expected = [[0.5, 0, 0.5, 0, 1]]
    assert BinaryDeduplicated().probability(binary, keys).tolist() == expected
    assert Deduplicated(Threshold(1.0)).probability(binary, keys).tolist() == expected


def test_deduplicated_top_k_accepts_different_ones():
    keys = torch.randint(0, 6, (400, 12), generator=generator())
    rewards = (keys * 7 % 6).double()
    accepted = Deduplicated(TopK(3)).decide(rewards, keys, uniforms(keys.shape)).accepted
    for row in range(400):
        best = sorted(set(rewards[row].tolist()))[-3:]
        assert sorted(rewards[row][accepted[row]].tolist()) == best


def test_chain_acts_on_what_was_accepted_before():
    rewards = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert Chain([TopK(3), Quantile(1.0)]).probability(rewards).tolist() == [[0, 0, 0, 1]]
    # a quantile of the two kept: without the chain F_hat would be 3/4 and 1
    assert Chain([TopK(2), Quantile(0.4)]).probability(rewards).tolist() == [[0, 0, 1, 1]]
    assert Chain([Threshold(2.5), RandomK(1)]).probability(rewards).tolist() == [[0, 0, 0.5, 0.5]]
    # a coin before: the worse of two is left over when the better one fails
    coin = Chain([ClassicalRejection(1.0, math.log(2.0)), TopK(1)]).probability(torch.zeros(1, 2))
    assert coin.tolist() == [[pytest.approx(3 / 8, abs=SIGMAS * 0.031)] * 2]
    assert float(coin.sum()) == pytest.approx(3 / 4, abs=SIGMAS * math.sqrt(3) / 4 / 16)
    pairs = Chain([Preference(1e-6), TopK(1)]).decide(rewards, None, uniforms((1, 4)))
    assert pairs.accepted.tolist() == [[False, False, False, True]]


# properties of every rule


def table(groups: int = 300, draws: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards with ties, keys that determine the reward, uniforms."""
    keys = torch.randint(0, 12, (groups, draws), generator=generator(3))
    return (keys * 5 % 7).double() / 3 - 1, keys, uniforms((groups, draws), 4)


def _simulated(rule: Acceptance) -> bool:
    rule = getattr(rule, "rule", rule)
    return isinstance(rule, Chain) and not isinstance(rule.rules[0], Threshold)


def _groups(rule: Acceptance) -> int:
    return 10 if _simulated(rule) else 300


@pytest.mark.parametrize(
    "rule", [*RULES, *map(SoftAcceptance, RULES)], ids=lambda rule: name(getattr(rule, "rule", rule))
)
def test_what_is_not_finite_is_never_accepted_and_changes_nothing(rule):
    """NaN draws behave as if they had not been drawn: whole blocks of them, so that rules of places apply as well."""
    rewards, keys, u = table(_groups(rule))
    padded_keys, padded_u = (torch.cat((t, t), 1) for t in (keys, u))
    bad = torch.tensor([math.nan, math.inf, -math.inf, math.nan], dtype=torch.float64).repeat(2)
    padded = torch.cat((rewards, bad.expand_as(rewards)), 1)
    alone, together = rule.decide(rewards, keys, u), rule.decide(padded, padded_keys, padded_u)
    assert not together.accepted[:, 8:].any()
    assert (together.probability[:, 8:] == 0).all()
    assert (together.weight[:, 8:] == 0).all()
    assert torch.allclose(alone.probability, together.probability[:, :8], rtol=0, atol=1e-12)
    assert alone.accepted.equal(together.accepted[:, :8])
    nothing = rule.decide(torch.full_like(rewards, math.nan), keys, u)
    assert not nothing.accepted.any()


@pytest.mark.parametrize("rule", RULES, ids=name)
def test_probability_is_monotone_in_the_own_reward(rule):
    """A raised reward never lowers the draw's own probability, and raises it somewhere unless the reward is ignored."""
    rewards, _, _ = table(_groups(rule))
    keys = torch.arange(8).expand_as(rewards)
    previous, rises = None, 0.0
    for own in torch.linspace(-2, 2, 3 if _simulated(rule) else 9):
        raised = rewards.clone()
        raised[:, 3] = own
        probability = rule.probability(raised, keys)[:, 3]
        if previous is not None:
            # the same simulated decisions of the other draws before and after: little noise is left
            slack = 0.031 * SIGMAS if _simulated(rule) else 1e-12
            assert (probability >= previous - slack).all()
            rises += float((probability - previous).sum())
        previous = probability
    ignores = isinstance(rule, Always | RandomK) or getattr(getattr(rule, "rule", None), "__class__", None) is Always
    assert (rises > 0.1 * len(rewards)) != ignores


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.positional], ids=name)
def test_permutation_equivariance(rule):
    rewards, keys, u = table(_groups(rule))
    shuffle = torch.randperm(8, generator=generator(5))
    decision = rule.decide(rewards, keys, u)
    shuffled = rule.decide(rewards[:, shuffle], keys[:, shuffle], u[:, shuffle])
    assert shuffled.accepted.equal(decision.accepted[:, shuffle])
    if not _simulated(rule):
        assert torch.allclose(shuffled.probability, decision.probability[:, shuffle])


@pytest.mark.parametrize("rule", [Preference(0.7), BestOfN(2)], ids=name)
def test_pairs_are_equivariant_to_a_swap_and_to_their_order(rule):
    rewards, keys, u = table()
    decision = rule.decide(rewards, keys, u)
    for shuffle in ([1, 0, 3, 2, 5, 4, 7, 6], [4, 5, 0, 1, 6, 7, 2, 3]):
        shuffled = rule.decide(rewards[:, shuffle], keys[:, shuffle], u[:, shuffle])
        assert shuffled.accepted.equal(decision.accepted[:, shuffle])
        assert torch.allclose(shuffled.probability, decision.probability[:, shuffle])


@pytest.mark.parametrize("rule", RULES, ids=name)
def test_groups_do_not_see_each_other(rule):
    rewards, keys, u = table(_groups(rule))
    decision, part = rule.decide(rewards, keys, u), rule.decide(rewards[7:9], keys[7:9], u[7:9])
    assert part.accepted.equal(decision.accepted[7:9])
    assert torch.equal(part.probability, decision.probability[7:9])
    assert torch.allclose(rule.expected(rewards[7:9], keys[7:9]), rule.expected(rewards, keys)[7:9], rtol=1e-9)


@pytest.mark.parametrize("rule", RULES, ids=name)
def test_frequency_of_a_fixed_group_is_its_probability(rule):
    """One group decided many times with fresh uniforms: the Bernoulli and the exact-count draws have mean A."""
    rewards, keys, _ = table(1)
    n = 40_000
    accepted = rule.accept(rewards.expand(n, 8), keys.expand(n, 8), uniforms((n, 8), 6))
    probability = rule.probability(rewards, keys)[0]
    spread = (probability * (1 - probability)).sqrt()
    error = SIGMAS * spread * math.sqrt(1 / n + (1 / 256 if _simulated(rule) else 0)) + 1e-12
    assert ((accepted.double().mean(0) - probability).abs() <= error).all()


def test_dtype_of_rewards_does_not_matter():
    rewards, keys, u = table()
    for rule in filter(lambda rule: not _simulated(rule), RULES):
        expected = rule.decide(rewards.float(), keys, u)
        found = rule.decide(rewards.float().double(), keys, u.clone())
        assert found.accepted.equal(expected.accepted)
        assert expected.probability.dtype == torch.float64
    assert TopK(1).decide(torch.tensor([[1, 3, 2]]), None, torch.zeros(1, 3)).accepted.tolist() == [
        [False, True, False]
    ]


def test_quantile_is_not_fooled_by_floating_point():
    """0.07 * 100 > 7 in floating point, and float32 would err for others."""
    rewards = torch.arange(100.0).unsqueeze(0)
    for percent in range(101):
        accepted = int(Quantile(percent / 100).probability(rewards).sum())
        assert accepted == min(101 - percent, 100)


# soft acceptance


@pytest.mark.parametrize("rule", [ClassicalRejection(0.8, 1.0), BinaryDeduplicated(), Preference(0.7)], ids=name)
def test_soft_acceptance_has_the_same_expectation_and_less_variance(rule):
    """The weighted sum of a function over a table, over repeated decisions and draws of the table."""
    index = atoms(20_000, 6)
    rewards = (VALUES[index] > 0).double() if isinstance(rule, BinaryDeduplicated) else VALUES[index]
    # copies have equal rewards, but what is trained on is the noised state, which is each draw's own
    function = rewards + gaussian(*index.shape, seed=8)
    hard = rule.decide(rewards, index, uniforms(index.shape))
    soft = SoftAcceptance(rule).decide(rewards, index, uniforms(index.shape))
    sums = [(decision.weight * function).sum(1) for decision in (hard, soft)]
    difference = sums[0] - sums[1]
    assert abs(float(difference.mean())) <= SIGMAS * float(difference.std()) / math.sqrt(len(difference))
    assert float(sums[1].var()) < 0.97 * float(sums[0].var())
    assert soft.accepted.equal(soft.probability > 0)
    assert torch.equal(soft.weight, soft.probability)


def test_soft_acceptance_passes_everything_on():
    rule = SoftAcceptance(Chain([ClassicalRejection(1.0, 0.0), TopK(2)]))
    assert rule.diagnostics(torch.tensor([[1.0, -1.0]])) == {"share_above_ceiling": 0.5}
    with pytest.raises(ValueError, match="k=2, but only M=1"):
        rule.check(1)


# refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(0), r"TopK: k must be a whole number of at least 1, got k=0"),
        (lambda: TopK(2.5), r"k=2\.5"),
        (lambda: TopK(True), r"k=True"),
        (lambda: RandomK(-1), r"RandomK: k .* k=-1"),
        (lambda: BestOfN(0), r"BestOfN: n .* n=0"),
        (lambda: Threshold(math.nan), r"Threshold: threshold must be a finite number, got threshold=nan"),
        (lambda: Quantile(90), r"Quantile: q must be a fraction in \[0, 1\].*q=90"),
        (lambda: ClassicalRejection(0.0, 1.0), r"temperature must be a finite number above 0, got temperature=0"),
        (lambda: ClassicalRejection(1.0, math.inf), r"ceiling must be a finite number, got ceiling=inf"),
        (lambda: Preference(-1.0), r"preference_scale=-1"),
        (lambda: Chain([]), r"Chain: rules must hold at least one"),
        (lambda: Chain([SoftAcceptance(TopK(1))]), r"SoftAcceptance\(Chain\("),
        (lambda: Deduplicated(SoftAcceptance(TopK(1))), r"SoftAcceptance\(Deduplicated\("),
        (lambda: Deduplicated(Preference(1.0)), r"Chain\(\[Preference\(\.\.\.\), Deduplicated\(Always\(\)\)\]\)"),
        (lambda: Deduplicated(Chain([TopK(2), BestOfN(2)])), r"neighbouring draws"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("rule", "draws", "message"),
    [
        (TopK(20), 10, r"accept k=20, but only M=10 draws per condition"),
        (RandomK(20), 10, r"accept k=20, but only M=10 draws per condition"),
        (Deduplicated(TopK(20)), 10, r"accept k=20, but only M=10"),
        (SoftAcceptance(TopK(20)), 10, r"accept k=20, but only M=10"),
        (Preference(1.0), 7, r"multiple of 2 draws per condition, got M=7; the nearest are 6 or 8"),
        (Preference(1.0), 1, r"got M=1; the nearest are 2"),
        (BestOfN(4), 10, r"blocks of n=4.* got M=10; the nearest are 8 or 12"),
        (BestOfN(4), 2, r"got M=2; the nearest are 4"),
        (Chain([TopK(5), RandomK(6)]), 10, r"accept k=6, but only M=5"),
        (Chain([Preference(1.0), TopK(6)]), 10, r"accept k=6, but only M=5"),
        (Chain([TopK(5), Preference(1.0)]), 11, r"multiple of 2"),
        (Always(), 0, r"M=0"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_wrong_numbers_of_draws_are_refused_before_sampling(rule, draws, message):
    with pytest.raises(ValueError, match=message):
        rule.check(draws)


def test_right_numbers_of_draws_are_not_refused():
    for rule in [*RULES, *map(SoftAcceptance, RULES)]:
        rule.check(8)
    TopK(8).check(8)
    Chain([TopK(5), Preference(1.0), RandomK(4)]).check(8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3), None, torch.zeros(3)), r"table \(groups, draws\), got shape \(3,\)"),
        (
            (torch.zeros(1, 3), None, torch.zeros(1, 2)),
            r"uniforms must have the shape of rewards, \(1, 3\), got \(1, 2\)",
        ),
        ((torch.zeros(1, 2), None, torch.tensor([[0.5, 1.0]])), r"uniforms must lie in \[0, 1\), got 1\.0"),
        ((torch.zeros(1, 2), torch.zeros(1, 3).long(), torch.zeros(1, 2)), r"keys must be int64 of shape \(1, 2\)"),
        ((torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2)), r"keys must be int64.*got torch\.float32"),
    ],
)
def test_wrong_tables_are_refused(arguments, message):
    for rule in (TopK(1), SoftAcceptance(Always())):
        with pytest.raises(ValueError, match=message):
            rule.decide(*arguments)


def test_wrong_rewards_are_refused():
    with pytest.raises(ValueError, match=r"BinaryDeduplicated: rewards must be 0 or 1, got 0\.5"):
        BinaryDeduplicated().probability(torch.tensor([[1.0, 0.5]]))
    with pytest.raises(ValueError, match=r"multiple of 2.*M=3"):
        Preference(1.0).probability(torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"blocks of n=2.*M=3"):
        BestOfN(2).probability(torch.zeros(1, 3))


def test_a_rule_of_ones_own_is_one_method():
    """What a newcomer writes: the base draws the decision, and refuses what is no probability."""

    class Shifted(Acceptance):
        def __init__(self, by: float) -> None:
            self.by = by

        def probability(self, rewards, keys=None):
            return rewards.double() + self.by

    rewards = torch.tensor([[0.25, 0.75, math.nan]])
    decision = Shifted(0.0).decide(rewards, None, torch.tensor([[0.3, 0.3, 0.3]]))
    assert decision.accepted.tolist() == [[False, True, False]]
    assert decision.probability.tolist() == [[0.25, 0.75, 0.0]]
    with pytest.raises(ValueError, match=r"Shifted: probabilities must lie in \[0, 1\], got 1\.25"):
        Shifted(0.5).decide(rewards, None, torch.zeros(1, 3))

    class Everything(Shifted):
        def accept(self, rewards, keys, uniforms):
            return torch.ones_like(rewards, dtype=torch.bool)

    assert Everything(0.0).decide(rewards, None, torch.zeros(1, 3)).accepted.tolist() == [[True, True, False]]


class Returning(Acceptance):
    """A rule of somebody else's, which returns what it likes."""

    def __init__(self, made) -> None:
        self.made = made

    def probability(self, rewards, keys=None):
        return self.made((rewards > rewards.median()).float())


@pytest.mark.parametrize(
    "made", [torch.Tensor.float, torch.Tensor.bool, torch.Tensor.long, torch.Tensor.numpy, torch.Tensor.tolist]
)
def test_probabilities_may_be_of_any_type(made):
    rewards, keys = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]), torch.full((2, 3), -1)
    right = (rewards > rewards.median()).double()
    for rule in (Returning(made), SoftAcceptance(Returning(made)), Chain([Always(), Returning(made)])):
        decision = rule.decide(rewards, keys, torch.full((2, 3), 0.5))
        assert torch.equal(decision.probability, right)
        assert rule.expected(rewards, keys).dtype == torch.float64
        assert implied(rule, rewards, keys).expected_accepted == 3


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda p: p[:1], r"Returning\.probability returned shape \(1, 3\) for rewards of shape \(2, 3\)"),
        (lambda p: p.flatten(), r"Returning\.probability returned shape \(6,\)"),
        (lambda p: None, r"Returning\.probability returned a NoneType .*; it must return a tensor of shape \(2, 3\)"),
    ],
)
def test_probabilities_of_another_shape_are_refused_by_the_name_of_the_rule(made, message):
    with pytest.raises(ValueError, match=message):
        Returning(made).decide(torch.rand(2, 3), None, torch.rand(2, 3))
