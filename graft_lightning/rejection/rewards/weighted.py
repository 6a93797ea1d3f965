"""A weighted sum of rewards."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graft_lightning.rejection.reward import Reward, score


class WeightedSum(Reward):
    """Σ w_i r_i(x, c). Where one of them is NaN, so is the sum.

    Args:
        rewards: the r_i; their scales are theirs, so that the weights have to even them out, unless ``normalise`` does.
        weights: the w_i, 1 by default; negative ones punish.
        name: of its column in pools and logs; a sum with other weights needs another one to stand beside this.
        normalise: bring each r_i to mean 0 and standard deviation 1 over the draws of a condition before it is summed,
            so that none outweighs the others by its scale; one that is the same for all of them is 0. Draws are then
            compared with each other alone, and evaluations go by the plain sum.
    """

    normalise = False

    def __init__(
        self,
        rewards: list[Reward],
        weights: list[float] | None = None,
        name: str = "WeightedSum",
        normalise: bool = False,
    ) -> None:
        if not rewards:
            raise ValueError("rewards: a sum of no rewards; give at least one")
        if weights is not None and len(weights) != len(rewards):
            raise ValueError(f"weights: {len(weights)} weights for {len(rewards)} rewards; give one each")
        self.rewards = list(rewards)
        self.weights = [1.0] * len(rewards) if weights is None else [float(weight) for weight in weights]
        self.groupwise = normalise or any(reward.groupwise for reward in rewards)
        if normalise:  # a plain sum is described as ever, and goes on with the pools that it has scored
            self.normalise = True
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def apart_for(self, count: int) -> bool:
        return all(reward.apart_for(count) for reward in self.rewards)

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        scores = torch.stack([score(reward, samples, conditions, shared=True) for reward in self.rewards])
        if self.normalise:
            scores = within_conditions(scores, conditions)
        return (torch.tensor(self.weights)[:, None] * scores).sum(0)

    @property
    def evaluated_by(self) -> Reward:
        """The plain sum: over all draws of a condition the mean of the normalised one is 0, whatever they are worth."""
        return WeightedSum(self.rewards, self.weights, self.name) if self.normalise else self

    def to(self, device: torch.device | str) -> "WeightedSum":
        for reward in self.rewards:
            reward.to(device)
        return self


SAME = 1e-6
"""Standard deviations below this share of the largest score are those of rounding."""


def within_conditions(scores: Tensor, conditions: Sequence[str]) -> Tensor:
    """Scores with mean 0 and standard deviation 1 over the samples of a condition, each row by itself.

    Args:
        scores: ``(rewards, batch)``; those that are not finite count in no mean, and stay as they are.
        conditions: of the samples; equal texts are one condition.
    """
    found = scores.double()
    numbers = {text: number for number, text in enumerate(dict.fromkeys(conditions))}
    group = torch.tensor([numbers[text] for text in conditions])
    for number in range(len(numbers)):
        here = group == number
        for row in found:
            known = here & row.isfinite()
            values = row[known]
            if len(values):
                spread = values.std(unbiased=False)
                same = spread <= SAME * values.abs().max()
                row[known] = torch.zeros_like(values) if same else (values - values.mean()) / spread
    return found.float()
