"""Flow-GRPO: the group's own advantages, and the divergence from the reference (arXiv 2505.05470)."""

from typing import Any

import torch
from torch import Tensor

from graft_lightning.ranges import NonNegative
from graft_lightning.rejection.objectives.advantages import LIMIT
from graft_lightning.rejection.objectives.policy import PolicyObjective
from graft_lightning.rejection.selection import Selection


class FlowGRPO(PolicyObjective):
    """A clipped policy gradient with advantages (r - mean) / (std + 1e-4) of the condition's own draws, within +-5.

    Published for flows sampled by `FlowSDE`; as an objective it takes any sampler that draws.

    Args:
        kl: 0.04 or 0.01 in the authors' recipes.
        policy: further arguments of `PolicyObjective`.
    """

    method = "flow-grpo"

    def __init__(self, kl: NonNegative = 0.04, **policy: Any) -> None:
        super().__init__(kl=kl, **policy)

    def weights(self, selection: Selection) -> Tensor:
        rewards = selection.rewards.double()
        finite = rewards.isfinite()
        count = finite.sum(1, keepdim=True).clamp_min(1)
        off = torch.where(finite, rewards - torch.where(finite, rewards, 0.0).sum(1, keepdim=True) / count, 0.0)
        spread = (off.square().sum(1, keepdim=True) / count).sqrt()
        return (off / (spread + 1e-4)).clamp(-LIMIT, LIMIT)
