"""Diffusion-DPO on the best and the worst draw of every condition (arXiv 2311.12908)."""

from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.weightings import OwnOutput
from graft_lightning.ranges import Positive
from graft_lightning.rejection.objectives.base import Answers, PoolObjective
from graft_lightning.rejection.selection import Selection
from graft_lightning.types import Groups


class DPO(PoolObjective):
    """-log sigmoid(-(scale / 2) [(d - d_ref)(best) - (d - d_ref)(worst)]), d the denoising loss; same level and noise.

    Of each condition two draws are trained on, so that few are in a batch many times. Where the model is the reference
    the gradient is scale / 4 times that of d(best) - d(worst). A condition whose finite rewards are equal has no pair.
    On any kind of field: the loss of classes is a bound of their log-likelihood too.

    Args:
        preference_scale: beta; 2000 in Diffusion-DPO, 100 in the flow recipes.
        objective: arguments of `Objective`; the weighting is by default that of the network's own output.
    """

    method = "dpo"
    same_noise = True
    group = 2
    weighted_only = True

    def __init__(self, preference_scale: Positive = 2000.0, **objective: Any) -> None:
        super().__init__(**objective)
        self.weighting = self.weighting or OwnOutput()
        self.preference_scale = preference_scale

    def weights(self, selection: Selection) -> Tensor:
        """1 of the best finite reward, -1 of the worst, else 0."""
        rewards = selection.rewards.double()
        finite = rewards.isfinite()
        best = rewards.masked_fill(~finite, -torch.inf).argmax(1, keepdim=True)
        worst = rewards.masked_fill(~finite, torch.inf).argmin(1, keepdim=True)
        pairs = torch.zeros_like(rewards).scatter(1, best, 1.0).scatter(1, worst, -1.0)
        apart = rewards.gather(1, best) > rewards.gather(1, worst)  # False where there is no finite reward
        return pairs * apart

    def losses(self, answers: Answers, groups: Groups) -> Tensor:
        ours, theirs = self.errors(answers)
        behind = groups.by_group(groups.weight * (ours - theirs)).sum(1)
        loss = torch.nn.functional.softplus(self.preference_scale / 2 * behind)
        return loss.repeat_interleave(groups.size)
