from torch import Tensor

from graft_lightning.rejection.acceptance import settings
from graft_lightning.rejection.acceptance.base import Acceptance
from graft_lightning.rejection.acceptance.groups import finite_rewards


class ClassicalRejection(Acceptance):
    """Independently with probability min(1, exp((r - c) / alpha)).

    For c >= sup r the accepted draws follow p exp(r / alpha) exactly, the optimum of E[r] - alpha KL. Rewards above c
    are all accepted alike, so their share is a diagnostic (`share_above_ceiling`). c is fixed beforehand: the maximum
    of the same draws would make A depend on them, and the accepted distribution would be another.

    Args:
        temperature: alpha, in the reward's units.
        ceiling: c, in the reward's units.
    """

    pointwise = True

    def __init__(self, temperature: float, ceiling: float) -> None:
        self.temperature = settings.positive("ClassicalRejection", "temperature", temperature)
        self.ceiling = settings.finite("ClassicalRejection", "ceiling", ceiling)

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        values, finite = finite_rewards(rewards)
        exponent = (values - self.ceiling).clamp(max=0) / self.temperature
        return exponent.exp().masked_fill(~finite, 0.0)

    def diagnostics(self, rewards: Tensor) -> dict[str, float]:
        values, finite = finite_rewards(rewards)
        above = int((values[finite] > self.ceiling).sum())
        return {"share_above_ceiling": above / max(int(finite.sum()), 1)}
