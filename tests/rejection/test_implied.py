"""What a rule implies for a table of rewards: closed forms, and the plug-in estimates against them."""

import itertools
import math

import pytest
import torch

from graft_lightning.rejection.acceptance import (
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
from graft_lightning.rejection.acceptance.closed_forms import binomial_tail, incomplete_beta
from graft_lightning.rejection.acceptance.resampling import mean_over_resamples
from graft_lightning.rejection.implied import (
    expected_acceptance_best_of_n,
    expected_acceptance_deduplicated,
    expected_acceptance_quantile,
    expected_acceptance_top_k,
    implied,
    kl_best_of_n,
    kl_top_k,
    without_signal,
)


def float64(*values):
    return torch.tensor(values, dtype=torch.float64)


def gaussian(groups, draws, seed=0):
    return torch.randn(groups, draws, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# closed forms


@pytest.mark.parametrize("trials", [1, 2, 7, 60])
def test_binomial_tail_is_the_sum_of_its_terms(trials):
    p = float64(0.0, 1e-6, 0.1, 0.5, 0.8, 1 - 1e-6, 1.0)
    for count in range(-1, trials + 3):
        terms = [math.comb(trials, j) * p**j * (1 - p) ** (trials - j) for j in range(max(count, 0), trials + 1)]
        expected = torch.stack(terms).sum(0) if terms else torch.zeros_like(p)
        assert torch.allclose(binomial_tail(count, trials, p), expected, rtol=1e-10, atol=1e-14)


def test_incomplete_beta_for_large_groups():
    """I_x(a, b) + I_{1-x}(b, a) = 1, the median of a symmetric one, and the Gaussian limit, for 100,000 draws."""
    n = 100_000.0
    assert float(incomplete_beta(float64(n / 2), float64(n / 2), float64(0.5))) == pytest.approx(0.5, abs=1e-9)
    p = 0.9 + float64(-2, -1, 0, 1, 2) * math.sqrt(0.09 / n)
    tail = binomial_tail(0.9 * n + 0.5, n, p)
    assert torch.allclose(tail, torch.special.ndtr(float64(-2, -1, 0, 1, 2)), atol=3e-3)


def test_top_k_with_atoms_is_the_mean_over_ties():
    """Enumerated: i draws above and j equal ones leave (K - i) places to j + 1."""
    draws, k = 7, 3
    above, equal = 0.3, 0.25
    expected = 0.0
    for i in range(draws):
        for j in range(draws - i):
            ways = math.comb(draws - 1, i) * math.comb(draws - 1 - i, j)
            mass = ways * above**i * equal**j * (1 - above - equal) ** (draws - 1 - i - j)
            expected += mass * min(max((k - i) / (j + 1), 0), 1)
    found = expected_acceptance_top_k(float64(1 - above), draws, k, float64(1 - above - equal))
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("draws", "k"), [(10, 1), (10, 3), (10, 10), (5, 8)])
def test_expected_acceptance_of_top_k_averages_to_k_of_m(draws, k):
    u = (torch.arange(20_000).double() + 0.5) / 20_000
    assert float(expected_acceptance_top_k(u, draws, k).mean()) == pytest.approx(min(k / draws, 1), abs=1e-6)
    cdf = float64(0.2, 0.5, 0.6, 1.0)
    below = float64(0.0, 0.2, 0.5, 0.6)
    accepted = expected_acceptance_top_k(cdf, draws, k, below) @ (cdf - below)
    assert float(accepted) == pytest.approx(min(k / draws, 1), rel=1e-12)


def test_best_of_n_is_top_1_of_n():
    cdf, below = float64(0.0, 0.3, 0.7, 1.0), float64(0.0, 0.1, 0.7 - 1e-7, 0.7)
    for n in (1, 2, 6):
        assert torch.allclose(expected_acceptance_best_of_n(cdf, n), expected_acceptance_top_k(cdf, n, 1))
        found = expected_acceptance_best_of_n(cdf[1:], n, below[1:])
        assert torch.allclose(found, expected_acceptance_top_k(cdf[1:], n, 1, below[1:]), rtol=1e-6)
        # a vanishing atom is continuous, and so is none
        assert float(found[1]) == pytest.approx(0.7 ** (n - 1), rel=1e-5)
        for none in (expected_acceptance_best_of_n(cdf, n, cdf), expected_acceptance_top_k(cdf, n, 1, cdf)):
            assert torch.allclose(none, cdf ** (n - 1))


def test_quantile_tends_to_its_threshold():
    cdf = float64(0.78, 0.82)
    assert torch.allclose(expected_acceptance_quantile(cdf, 100_000, 0.8), float64(0, 1), atol=1e-12)
    few = expected_acceptance_quantile(cdf, 5, 0.8)
    expected = [4 * p**3 * (1 - p) + p**4 for p in cdf.tolist()]
    assert few.tolist() == pytest.approx(expected, rel=1e-12)


def test_deduplication_favours_the_rare():
    p = float64(1e-12, 0.01, 0.5, 1.0)
    found = expected_acceptance_deduplicated(p, 20)
    assert found.tolist() == pytest.approx([1.0, (1 - 0.99**20) / 0.2, (1 - 0.5**20) / 10, 1 / 20], rel=1e-9)


def test_divergence_of_best_of_n():
    """log n - (n - 1) / n, here against numerical integration of w log w with w = n u^(n-1)."""
    u = (torch.arange(200_000).double() + 0.5) / 200_000
    for n in (1, 2, 10, 50):
        density = n * u ** (n - 1)
        assert float(torch.xlogy(density, density).mean()) == pytest.approx(kl_best_of_n(n), abs=1e-6)
        assert kl_top_k(n, 1) == pytest.approx(kl_best_of_n(n), abs=1e-5)
    # a share K / M of a large group is the truncated distribution, but for an edge of width 1 / sqrt(M)
    gaps = [math.log(10) - kl_top_k(10 * k, k) for k in (20, 80, 320)]
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.03)
    assert gaps[1] / gaps[2] == pytest.approx(2, rel=0.03)
    assert 0 < gaps[2] < 0.06


# what a rule implies for a table


@pytest.mark.parametrize("n", [2, 4, 16])
def test_divergence_of_a_gaussian_table_is_the_analytic_one(n):
    """Best of n in blocks, of 800 draws: the plug-in loses what lies within its steps of 1/800."""
    found = implied(BestOfN(n), gaussian(20, 800))
    assert found.kl == pytest.approx(kl_best_of_n(n), abs=0.01)
    assert found.kl <= kl_best_of_n(n)
    assert found.kl_cap == pytest.approx(math.log(800))
    assert found.acceptance_rate == pytest.approx(1 / n)


def test_divergence_of_top_k_and_of_the_control():
    rewards = gaussian(20, 100)
    assert implied(TopK(10), rewards).kl == pytest.approx(kl_top_k(100, 10), rel=0.03)
    assert implied(RandomK(10), rewards).kl == pytest.approx(0, abs=1e-12)
    assert implied(Always(), rewards).kl == pytest.approx(0, abs=1e-12)
    # one of all: the true value is 3.6, and the cap log 100 is in the way
    capped = implied(TopK(1), rewards)
    assert capped.kl < kl_best_of_n(100) < capped.kl_cap == pytest.approx(math.log(100))


def test_divergence_of_classical_rejection():
    """The Gaussian tilt by one s.d.: KL = 1/2, effective share e^-1, reward + 1, acceptance e^(1/2 - c)."""
    found = implied(ClassicalRejection(1.0, 4.0), gaussian(100, 10_000))
    assert found.kl == pytest.approx(0.5, abs=0.01)
    assert found.effective_sample_size / found.draws == pytest.approx(math.exp(-1), abs=0.02)
    assert found.reward_after - found.reward_before == pytest.approx(1, abs=0.02)
    assert found.acceptance_rate == pytest.approx(math.exp(-3.5), rel=0.02)
    assert found.diagnostics["share_above_ceiling"] == pytest.approx(3.17e-5, abs=3e-5)
    assert found.scalars()["share_above_ceiling"] == found.diagnostics["share_above_ceiling"]


@pytest.mark.parametrize("rule", [TopK(3), Quantile(0.7), BestOfN(4), BinaryDeduplicated()])
def test_closed_expectations_agree_with_resampling(rule):
    """E[A | x] under the group's empirical distribution: the closed form of each rule against 256 bootstrap groups."""
    keys = torch.randint(0, 9, (60, 12), generator=torch.Generator().manual_seed(1))
    rewards = (keys % 2).double() if isinstance(rule, BinaryDeduplicated) else (keys * 4 % 9).double()
    rewards[:30, 8:] = torch.nan
    if isinstance(rule, BestOfN):
        # blocks with gaps are smaller than n: the closed form is that of whole blocks
        rewards, keys = rewards[30:], keys[30:]
    exact = rule.expected(rewards, keys)
    resampled = mean_over_resamples(rule.sampled, rewards, keys)
    error = exact - resampled
    # a draw occurs in a share 1 - 1/e of the resampled groups, and twice in one group says little more than once
    assert float(error.abs().max()) < 5 * math.sqrt(0.25 / (256 * 0.63))
    assert abs(float(error.mean())) < 0.01
    assert float(torch.corrcoef(torch.stack((exact.flatten(), resampled.flatten())))[0, 1]) > 0.98


@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_preference_is_exact(scale):
    """Over all bootstrap groups, each draw's mean A: E_j sigmoid((r - r_j) / beta), itself among the j."""
    rewards, everywhere = gaussian(50, 4), torch.zeros(50, 4).double()
    seen = torch.zeros_like(everywhere)
    for picked in itertools.product(range(4), repeat=4):
        index = torch.tensor(picked).expand(50, 4)
        everywhere.scatter_add_(1, index, Preference(scale).probability(rewards.gather(1, index)))
        seen.scatter_add_(1, index, torch.ones_like(seen))
    torch.testing.assert_close(Preference(scale).expected(rewards), everywhere / seen)
    padded = torch.cat([rewards, torch.full((50, 2), torch.nan).double()], 1)
    found = Preference(scale).expected(padded)
    torch.testing.assert_close(found[:, :4], everywhere / seen)
    assert (found[:, 4:] == 0).all()


def test_blocks_of_preference_are_the_whole(monkeypatch):
    rewards = gaussian(3, 10)
    rewards[0, 3] = math.nan
    whole = Preference(0.5).expected(rewards)
    monkeypatch.setattr("graft_lightning.rejection.acceptance.preference.BLOCK", 3)
    torch.testing.assert_close(Preference(0.5).expected(rewards), whole)


def test_errors_of_resampling_average_out_over_conditions():
    """The divergence at M = 4 to 2 %, where numbers that all groups shared gave it to 10 or 25 %."""
    rewards = gaussian(1000, 4)
    for scale in (0.3, 2.0):
        rule = Preference(scale)
        kl = [
            float((share * (4 * share).log()).sum(1).mean())
            for table in (rule.expected(rewards), mean_over_resamples(rule.sampled, rewards, None))
            for share in (table / table.sum(1, keepdim=True),)
        ]
        assert kl[1] == pytest.approx(kl[0], rel=0.02)


def test_groups_draw_numbers_of_their_own():
    """The errors of two groups are uncorrelated, whether they differ in rewards, in order or in keys alone."""
    rule = Chain([ClassicalRejection(1.0, math.log(2.0)), TopK(1)])
    rewards = 1e-9 * gaussian(400, 2)  # top-1 of what the coins leave: the better one 1/2, the other 1/4
    best = rewards == rewards.amax(1, keepdim=True)
    error = rule.probability(rewards) - torch.where(best, 0.5, 0.25)
    assert abs(float(error.mean())) < 5 * 0.031 / 800**0.5
    assert len(error[best].unique()) > 20
    same, keys = torch.zeros(400, 2), torch.arange(800).reshape(400, 2)
    assert len(rule.probability(same, keys)[:, 0].unique()) > 20
    assert torch.equal(rule.probability(same), rule.probability(same, torch.full((400, 2), -1)))
    assert torch.equal(rule.probability(same), rule.probability(-same))


def test_resampled_expectation_of_preference():
    """Two rewards, 0 and 1, in a group: E_j sigmoid((r - r_j) / beta) is the mean of 1/2 and the comparison."""
    rewards = float64(0.0, 1.0, math.nan, math.nan).unsqueeze(0)
    chance = 1 / (1 + math.exp(-2.0))
    expected = float64((0.5 + 1 - chance) / 2, (0.5 + chance) / 2, 0, 0)
    # two finite draws fill the first pair of a resampled group
    tolerance = 5 * (chance - 0.5) / 2 / math.sqrt(256)
    assert torch.allclose(Preference(0.5).expected(rewards), expected, rtol=0, atol=tolerance)


def test_resampling_is_exact_where_nothing_is_random():
    rewards = torch.where(gaussian(30, 9) > 1, torch.nan, gaussian(30, 9))
    assert torch.equal(mean_over_resamples(Always().sampled, rewards, None), rewards.isfinite().double())


def test_a_chain_with_ranks_is_expected_over_other_groups():
    """All pass the threshold, so it is the top-2 of other groups of the same distribution, not of this one."""
    rewards = gaussian(4, 6)
    expected = Chain([Threshold(-9.0), TopK(2)]).expected(rewards)
    tolerance = 5 * math.sqrt(0.25 / (256 * 0.63))
    assert torch.allclose(expected, TopK(2).expected(rewards), rtol=0, atol=tolerance)
    certain = Chain([Threshold(0.0), ClassicalRejection(1.0, 2.0)])
    assert torch.equal(certain.expected(rewards), certain.probability(rewards))


def test_chain_and_wrappers_have_figures_too():
    keys = torch.randint(0, 15, (8, 20), generator=torch.Generator().manual_seed(2))
    rewards = keys.double().sin()
    for rule in (Deduplicated(TopK(4)), Chain([Threshold(0.0), TopK(4)]), Chain([Preference(1.0), TopK(4)])):
        hard, soft = implied(rule, rewards, keys), implied(SoftAcceptance(rule), rewards, keys)
        assert hard.expected_accepted == pytest.approx(8 * 4, rel=1e-9)
        assert hard.scalars() == soft.scalars()
        assert 0 < hard.kl < hard.kl_cap
        assert hard.reward_after > hard.reward_before
        assert 8 < hard.effective_sample_size < 8 * 20


def test_effective_sample_size_of_a_threshold():
    """Conditions of 1 and 3 accepted draws count alike: weights 1/2, 1/6, 1/6, 1/6 make 3 draws, not 4."""
    rewards = float64(*[0, 0, 0, 9], *[0, 5, 7, 9]).reshape(2, 4)
    found = implied(Threshold(4.0), rewards)
    assert found.effective_sample_size_of_condition.tolist() == [1, 3]
    assert found.effective_sample_size == pytest.approx(3.0)
    assert found.kl_of_condition.tolist() == pytest.approx([math.log(4), math.log(4 / 3)])
    assert found.kl == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)
    assert found.rate_of_condition.tolist() == [0.25, 0.75]
    assert (found.reward_before, found.reward_after) == (pytest.approx((9 + 21) / 8), pytest.approx((9 + 7) / 2))
    assert (found.expected_accepted, found.acceptance_rate) == (4, 0.5)


def test_what_is_counted():
    """Failed rewards, padding, conditions without signal, and conditions in which nothing is accepted."""
    nan = math.nan
    rewards = float64(*[1, 2, 3, nan], *[5, 5, 5, 5], *[nan] * 4, *[1, nan, math.inf, 2], *[0, 1, 8, 8]).reshape(5, 4)
    drawn = torch.ones(5, 4, dtype=torch.bool)
    drawn[0, 3] = False
    found = implied(Threshold(2.5), rewards, drawn=drawn)
    assert (found.conditions, found.draws, found.non_finite) == (5, 19, 6)
    assert (found.without_signal, found.dropped, found.without_accepted) == (2, 2, 1)
    assert found.expected_accepted == 3
    assert found.acceptance_rate == pytest.approx(3 / 19)
    assert found.rate_of_condition.tolist() == pytest.approx([1 / 3, 0, 0, 0, 0.5])
    assert found.reward_before == pytest.approx((2 + 17 / 4) / 2)
    assert found.reward_after == pytest.approx((3 + 8) / 2)
    assert found.kl == pytest.approx((math.log(3) + math.log(2)) / 2)
    assert found.kl_cap == pytest.approx((math.log(3) + math.log(4)) / 2)
    kept = implied(Threshold(2.5), rewards, drawn=drawn, drop_without_signal=False)
    assert (kept.without_signal, kept.dropped, kept.without_accepted) == (2, 0, 2)
    assert kept.expected_accepted == 7


def test_signal():
    nan = math.nan
    rewards = float64(*[1, 1, nan], *[1, 2, nan], *[nan, nan, nan], *[3, math.inf, nan], *[0.1, 0.1, 0.1]).reshape(5, 3)
    assert without_signal(rewards).tolist() == [True, False, True, True, True]
    assert without_signal(rewards.float()).tolist() == [True, False, True, True, True]


def test_single_draws_are_not_dropped():
    found = implied(Threshold(0.0), gaussian(1000, 1))
    assert (found.without_signal, found.dropped) == (1000, 0)
    assert found.acceptance_rate == pytest.approx(0.5, abs=0.08)


def test_nothing_accepted_has_no_figures():
    found = implied(Threshold(100.0), gaussian(3, 4))
    assert (found.expected_accepted, found.without_accepted) == (0, 3)
    assert math.isnan(found.kl)
    assert math.isnan(found.reward_after)
    assert found.effective_sample_size_of_condition.tolist() == [0, 0, 0]
