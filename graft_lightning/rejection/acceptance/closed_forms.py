"""E[A | x] of the rules and the divergence that they imply, in closed form (the table under Eq. 5).

`cdf` is F(r) = P(R <= r) and `cdf_below` F(r-) = P(R < r), of one draw of the reference; without `cdf_below` the reward
is continuous there. Everything broadcasts and returns float64.
"""

import math

import torch
from torch import Tensor

ROUNDING = 1e-9
"""q M is compared with a whole number; 0.07 * 100 is above 7 in floating point and must not be."""


def expected_acceptance_top_k(
    cdf: Tensor, draws: int | Tensor, accept_k: int, cdf_below: Tensor | None = None
) -> Tensor:
    r"""E[A | R = r] of top-K of M, ties broken at random.

    Continuous: P(Bin(M - 1, 1 - F) <= K - 1). An atom spreads over the uniform ranks between F(r-) and F(r), and the
    mean of the continuous form over them is (H(F) - H(F-)) / (M (F - F-)), H(p) = E max(0, Bin(M, p) - (M - K)).
    Where M <= K everything is accepted.
    """
    cdf = torch.as_tensor(cdf, dtype=torch.float64)
    draws = torch.as_tensor(draws, dtype=torch.float64, device=cdf.device)
    rejected = draws - accept_k
    continuous = binomial_tail(rejected, draws - 1, cdf)
    if cdf_below is None:
        return continuous
    atom = cdf - cdf_below
    excess = _mean_excess(rejected, draws, cdf) - _mean_excess(rejected, draws, torch.as_tensor(cdf_below))
    # what is a difference of nearly equal numbers can leave [0, 1] by rounding
    return torch.where(atom > 0, excess / (draws * atom), continuous).clamp(0, 1)


def expected_acceptance_best_of_n(cdf: Tensor, n: int, cdf_below: Tensor | None = None) -> Tensor:
    """E[A | R = r] of the best of n: F^(n-1), or (F^n - F-^n) / (n (F - F-)) at an atom."""
    cdf = torch.as_tensor(cdf, dtype=torch.float64)
    if cdf_below is None:
        return cdf ** (n - 1)
    atom = cdf - cdf_below
    # F^n - F-^n = F^n (1 - (F- / F)^n), without the cancellation of a small atom
    share = -torch.expm1(n * torch.log1p(-atom / cdf))
    return torch.where(atom > 0, cdf**n * share / (n * atom), cdf ** (n - 1))


def expected_acceptance_quantile(cdf: Tensor, draws: int | Tensor, q: float) -> Tensor:
    """E[A | R = r] of the rule 1[F_hat(r) >= q]: P(1 + Bin(M - 1, F) >= q M), atoms or not."""
    draws = torch.as_tensor(draws, dtype=torch.float64)
    return binomial_tail(needed(q, draws) - 1, draws - 1, torch.as_tensor(cdf, dtype=torch.float64))


def needed(q: float, draws: Tensor) -> Tensor:
    """The smallest whole number that is at least q M."""
    draws = draws.to(torch.float64)
    return (q * draws - ROUNDING * draws).ceil()


def expected_acceptance_deduplicated(probability: Tensor, draws: int | Tensor, reward: Tensor | float = 1.0) -> Tensor:
    """E[A | x] of the binary rule with de-duplication, r (1 - (1 - p)^M) / (M p), p > 0 the probability of x."""
    p = torch.as_tensor(probability, dtype=torch.float64)
    return reward * -torch.expm1(draws * torch.log1p(-p)) / (draws * p)


def kl_best_of_n(n: int) -> float:
    """KL(p_RL || p) of the best of n for continuous rewards: log n - (n - 1) / n nats."""
    return math.log(n) - (n - 1) / n


def kl_top_k(draws: int, accept_k: int, points: int = 1 << 14) -> float:
    """KL(p_RL || p) of top-K of M for continuous rewards, in nats, by the midpoint rule over u = F(r)."""
    u = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    density = draws / accept_k * expected_acceptance_top_k(u, draws, accept_k)
    return float(torch.xlogy(density, density).mean())


def binomial_tail(count: Tensor | float, trials: Tensor | float, p: Tensor) -> Tensor:
    """P(Bin(trials, p) >= count), the regularised incomplete beta function I_p(count, trials - count + 1)."""
    p = torch.as_tensor(p, dtype=torch.float64)
    at_least = torch.as_tensor(count, dtype=torch.float64, device=p.device)
    of = torch.as_tensor(trials, dtype=torch.float64, device=p.device)
    at_least, of, p = torch.broadcast_tensors(at_least, of, p)
    inside = incomplete_beta(at_least.clamp(min=1), (of - at_least + 1).clamp(min=1), p)
    return torch.where(at_least <= 0, 1.0, torch.where(at_least > of, 0.0, inside))


def incomplete_beta(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """I_x(a, b) for a, b > 0 and x in [0, 1], elementwise; by scipy, because torch has none."""
    from scipy.special import betainc  # heavy

    found = betainc(*(value.detach().cpu().numpy() for value in (a, b, x)))
    return torch.as_tensor(found, dtype=torch.float64, device=x.device)


def _mean_excess(threshold: Tensor, trials: Tensor, p: Tensor) -> Tensor:
    """E max(0, Bin(trials, p) - threshold), from E[B; B > a] = trials p P(Bin(trials - 1, p) >= a)."""
    p = p.to(torch.float64)
    return trials * p * binomial_tail(threshold, trials - 1, p) - threshold * binomial_tail(threshold + 1, trials, p)
