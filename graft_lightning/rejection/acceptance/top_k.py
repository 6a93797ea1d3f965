import torch
from torch import Tensor

from graft_lightning.rejection.acceptance import settings
from graft_lightning.rejection.acceptance.base import Acceptance
from graft_lightning.rejection.acceptance.closed_forms import expected_acceptance_top_k
from graft_lightning.rejection.acceptance.groups import counts, finite_rewards, order, places


class TopK(Acceptance):
    """The K best of the M draws: exactly min(K, number of finite rewards), ties resolved by the lowest uniform.

    E[A | r] = P(Bin(M - 1, 1 - F(r)) <= K - 1) for continuous rewards.

    Args:
        k: how many to accept per condition, at most M.
    """

    def __init__(self, k: int) -> None:
        self.k = settings.whole_number("TopK", "k", k)

    def check(self, draws: int) -> None:
        super().check(draws)
        settings.enough("TopK", self.k, draws)

    def most(self, draws: int) -> int:
        return min(self.k, draws)

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        values, finite = finite_rewards(rewards)
        below, not_above, size = counts(values, finite)
        # of the places that better rewards leave, equal rewards get the same share
        share = (self.k - (size - not_above)) / (not_above - below).clamp(min=1).to(torch.float64)
        return share.clamp(0, 1).masked_fill(~finite, 0.0)

    def accept(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        values, finite = finite_rewards(rewards)
        return finite & (places(order(-values, uniforms.to(torch.float64))) < self.k)

    def expected(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        values, finite = finite_rewards(rewards)
        below, not_above, size = counts(values, finite)
        size = size.clamp(min=1).to(torch.float64)
        return expected_acceptance_top_k(not_above / size, size, self.k, below / size).masked_fill(~finite, 0.0)
