from torch import Tensor

from graft_lightning.rejection.acceptance.base import Acceptance
from graft_lightning.rejection.acceptance.closed_forms import expected_acceptance_quantile, needed
from graft_lightning.rejection.acceptance.groups import counts, finite_rewards


class Quantile(Acceptance):
    """Every draw whose empirical distribution function F_hat(r) = #{r_j <= r} / M reaches q.

    E[A | r] = P(1 + Bin(M - 1, F(r)) >= q M). Ties are accepted or rejected together, so the number varies with them:
    for M = 10 different rewards q = 0.9 accepts two (F_hat is 0.9 and 1), and of M equal ones it accepts all.

    Args:
        q: a fraction in [0, 1]; 0.9 for about the best tenth.
    """

    def __init__(self, q: float) -> None:
        if not 0 <= q <= 1:
            raise ValueError(f"Quantile: q must be a fraction in [0, 1] (0.9 for the best tenth), got q={q!r}")
        self.q = float(q)

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        values, finite = finite_rewards(rewards)
        _, not_above, size = counts(values, finite)
        return (finite & (not_above >= needed(self.q, size))).double()

    def expected(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        values, finite = finite_rewards(rewards)
        _, not_above, size = counts(values, finite)
        size = size.clamp(min=1).double()
        return expected_acceptance_quantile(not_above / size, size, self.q).masked_fill(~finite, 0.0)
