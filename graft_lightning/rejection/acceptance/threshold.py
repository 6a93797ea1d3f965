from torch import Tensor

from graft_lightning.rejection.acceptance import settings
from graft_lightning.rejection.acceptance.base import Acceptance
from graft_lightning.rejection.acceptance.groups import finite_rewards


class Threshold(Acceptance):
    """Every draw with r >= c.

    Args:
        threshold: c, in the reward's units.
    """

    pointwise = True

    def __init__(self, threshold: float) -> None:
        self.threshold = settings.finite("Threshold", "threshold", threshold)

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        values, finite = finite_rewards(rewards)
        return (finite & (values >= self.threshold)).double()
