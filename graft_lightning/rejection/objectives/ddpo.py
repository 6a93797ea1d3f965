"""DDPO: denoising diffusion policy optimisation (arXiv 2305.13301)."""

from typing import Any

import torch
from torch import Tensor

from graft_lightning.ranges import Count
from graft_lightning.rejection.objectives.advantages import LIMIT
from graft_lightning.rejection.objectives.policy import PolicyObjective
from graft_lightning.rejection.selection import Selection


class DDPO(PolicyObjective):
    """A clipped policy gradient whose advantages look back at earlier rounds: (r - mean) / (std + 1e-6), within +-5.

    Mean and standard deviation are those of the condition's last ``buffer`` rewards, this round's among them; of all
    rewards of the round while a condition has fewer than ``least``. Earlier rewards are read from the pool.

    On any kind of field whose sampler draws.

    Args:
        buffer: rewards of a condition that are looked back at.
        least: fewer are not enough.
        policy: arguments of `PolicyObjective`.
    """

    method = "ddpo"
    within_conditions = False

    def __init__(self, buffer: Count = 32, least: Count = 16, **policy: Any) -> None:
        super().__init__(**policy)
        self.buffer, self.least = buffer, least

    def weights(self, selection: Selection) -> Tensor:
        return self.weights_after(selection, selection.rewards[:, :0])

    def weights_after(self, selection: Selection, earlier: Tensor) -> Tensor:
        rewards = selection.rewards.double()
        finite = rewards.isfinite()
        found = torch.zeros_like(rewards)
        of_all = rewards[finite]
        for i, before in enumerate(earlier.double()):
            known = torch.cat([before[before.isfinite()], rewards[i][finite[i]]])[-self.buffer :]
            known = known if len(known) >= self.least else of_all
            if len(known):
                found[i] = (rewards[i] - known.mean()) / (known.std(unbiased=False) + 1e-6)
        return torch.where(finite, found.clamp(-LIMIT, LIMIT), 0.0)
