"""DGPO: a group's draws are pushed apart by one factor that its whole preference decides (arXiv 2510.08425)."""

from typing import Any

from torch import Tensor

from graft_lightning.processes.weightings import OwnOutput
from graft_lightning.ranges import Positive
from graft_lightning.rejection.objectives.advantages import advantages
from graft_lightning.rejection.objectives.base import Answers, PoolObjective
from graft_lightning.rejection.selection import Selection
from graft_lightning.types import Groups


class DGPO(PoolObjective):
    """Mean of S A_i d_i, S = sigmoid(sum_i A_i scale (d_i - d_i of the reference) / size) without gradient.

    d is the denoising loss, A the advantage within the condition; the draws of a group share level and noise. S is 1/2
    at the reference and falls towards 0 as the group's better draws become likelier than its worse ones, which ends the
    pull. On any kind of field.

    Args:
        preference_scale: beta.
        objective: arguments of `Objective`; the weighting is by default that of the network's own output.
    """

    method = "dgpo"
    same_noise = True

    def __init__(self, preference_scale: Positive = 100.0, **objective: Any) -> None:
        super().__init__(**objective)
        self.weighting = self.weighting or OwnOutput()
        self.preference_scale = preference_scale

    def weights(self, selection: Selection) -> Tensor:
        return advantages(selection.rewards)

    def losses(self, answers: Answers, groups: Groups) -> Tensor:
        ours, theirs = self.errors(answers)
        together = groups.by_group(groups.weight * (ours - theirs).detach()).mean(1)
        pull = (self.preference_scale * together).sigmoid().repeat_interleave(groups.size)
        return pull * groups.weight * ours
