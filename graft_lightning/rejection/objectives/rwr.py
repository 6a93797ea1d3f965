"""Reward-weighted regression: every draw counts, by the exponential of its reward."""

from typing import Any

import torch
from torch import Tensor

from graft_lightning.ranges import Positive
from graft_lightning.rejection.objectives.base import Answers, PoolObjective
from graft_lightning.rejection.selection import Selection
from graft_lightning.types import Groups


class RWR(PoolObjective):
    """Reward-weighted regression: the denoising loss, times exp(r / temperature) over its mean within the condition.

    Its minimiser is the distribution of (5) with r-hat = r and alpha = temperature, up to the error of few draws. The
    limit of a low temperature is `RAFT`, of a high one training on unselected samples. On any kind of field.

    Args:
        temperature: in the units of the reward.
        objective: arguments of `Objective`.
    """

    method = "rwr"
    asks_reference = False

    def __init__(self, temperature: Positive, **objective: Any) -> None:
        super().__init__(**objective)
        self.temperature = temperature

    def weights(self, selection: Selection) -> Tensor:
        rewards = selection.rewards.double()
        rewards = rewards.masked_fill(~rewards.isfinite(), -torch.inf)
        weights = (rewards / self.temperature).softmax(1) * rewards.shape[1]
        return weights.nan_to_num(0.0)  # of a condition without any finite reward

    def aim(self, selection: Selection) -> Tensor:
        return self.weights(selection)

    def losses(self, answers: Answers, groups: Groups) -> Tensor:
        return groups.weight * self.of(answers.raw, answers.seen, answers.trained, answers.process)


class RAFT(PoolObjective):
    """Reward-ranked fine-tuning: the denoising loss of each condition's best draw alone, the first of equals.

    With ``collect.rounds`` it is drawn anew from what it has become. GRAFT by best-of-N with N = M is the same method.
    On any kind of field.
    """

    method = "raft"
    asks_reference = False
    group = 1
    weighted_only = True

    def weights(self, selection: Selection) -> Tensor:
        finite = selection.rewards.isfinite()
        best = selection.rewards.double().masked_fill(~finite, -torch.inf).argmax(1, keepdim=True)
        return torch.zeros(finite.shape, dtype=torch.float64).scatter(1, best, 1.0) * finite

    def aim(self, selection: Selection) -> Tensor:
        return self.weights(selection) * selection.rewards.shape[1]

    def losses(self, answers: Answers, groups: Groups) -> Tensor:
        return self.of(answers.raw, answers.seen, answers.trained, answers.process)
