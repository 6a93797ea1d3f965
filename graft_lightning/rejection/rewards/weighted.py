"""A weighted sum of rewards."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graft_lightning.rejection.reward import Reward, score


class WeightedSum(Reward):
    """Σ w_i r_i(x, c). Where one of them is NaN, so is the sum.

    Args:
        rewards: the r_i; their scales are theirs, so that the weights have to even them out.
        weights: the w_i, 1 by default; negative ones punish.
        name: of its column in pools and logs; a sum with other weights needs another one to stand beside this.
    """

    def __init__(self, rewards: list[Reward], weights: list[float] | None = None, name: str = "WeightedSum") -> None:
        if not rewards:
            raise ValueError("rewards: a sum of no rewards; give at least one")
        if weights is not None and len(weights) != len(rewards):
            raise ValueError(f"weights: {len(weights)} weights for {len(rewards)} rewards; give one each")
        self.rewards = list(rewards)
        self.weights = [1.0] * len(rewards) if weights is None else [float(weight) for weight in weights]
        self.groupwise = any(reward.groupwise for reward in rewards)
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        scores = torch.stack([score(reward, samples, conditions) for reward in self.rewards])
        return (torch.tensor(self.weights)[:, None] * scores).sum(0)

    def to(self, device: torch.device | str) -> "WeightedSum":
        for reward in self.rewards:
            reward.to(device)
        return self
