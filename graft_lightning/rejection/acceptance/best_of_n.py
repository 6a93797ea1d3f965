from torch import Tensor

from graft_lightning.rejection.acceptance import settings
from graft_lightning.rejection.acceptance.base import Acceptance
from graft_lightning.rejection.acceptance.closed_forms import expected_acceptance_best_of_n
from graft_lightning.rejection.acceptance.groups import counts, finite_rewards
from graft_lightning.rejection.acceptance.top_k import TopK


class BestOfN(Acceptance):
    """The best of all M draws, or of each block of n consecutive draws; ties resolved by the lowest uniform.

    E[A | r] = F(r)^(n-1) for continuous rewards. A block without a finite reward accepts nothing.

    Args:
        n: draws per block, a divisor of M; None for one block of all.
    """

    def __init__(self, n: int | None = None) -> None:
        self.n = None if n is None else settings.whole_number("BestOfN", "n", n)
        self.positional = n is not None
        self.best = TopK(1)

    def check(self, draws: int) -> None:
        super().check(draws)
        if self.n is not None:
            settings.multiple("BestOfN", f"cuts the draws into blocks of n={self.n}", self.n, draws)

    def most(self, draws: int) -> int:
        return 1 if self.n is None else draws // self.n

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        return self.best.table(self._blocks(rewards), None).reshape(rewards.shape)

    def accept(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        return self.best.accept(self._blocks(rewards), None, self._blocks(uniforms)).reshape(rewards.shape)

    def expected(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        if self.n is None:
            return self.best.expected(rewards)
        self._blocks(rewards)
        values, finite = finite_rewards(rewards)
        below, not_above, size = counts(values, finite)
        size = size.clamp(min=1).double()
        return expected_acceptance_best_of_n(not_above / size, self.n, below / size).masked_fill(~finite, 0.0)

    def _blocks(self, table: Tensor) -> Tensor:
        """``(groups * blocks, n)``."""
        if table.ndim != 2 or self.n is None:
            return table
        self.check(table.shape[-1])
        return table.reshape(-1, self.n)
