"""Rewards in order of precedence."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from graft_lightning.rejection.reward import Reward, score

DISTINCT = 2**24
"""Integers that float32 tells apart."""


class Lexicographic(Reward):
    """The first reward decides; only among equals the second, and so on.

    Every reward is taken to lie in [0, 1] (clipped) and cut into levels; the levels are the digits of a number, the
    first the most significant, and that number is brought into [0, 1]. Where one of them is not finite, the whole
    is NaN.

    Args:
        rewards: in order of precedence.
        levels: how many values of each reward are told apart, 2 for yes or no; the fewer, the more say have the others.
            By default 2 for each reward but the last, and 1,000 for the last.
        name: of its column in pools and logs; another order needs another one to stand beside this.
    """

    def __init__(self, rewards: list[Reward], levels: list[int] | None = None, name: str = "Lexicographic") -> None:
        if not rewards:
            raise ValueError("rewards: no reward to begin with; give at least one")
        levels = [2] * (len(rewards) - 1) + [1000] if levels is None else list(levels)
        if len(levels) != len(rewards) or min(levels) < 2:
            raise ValueError(f"levels={levels} for {len(rewards)} rewards; give one of at least 2 for each")
        if prod(levels) > DISTINCT:
            raise ValueError(f"levels={levels} make {prod(levels)} values; float32 tells {DISTINCT} apart")
        self.rewards, self.levels = list(rewards), levels
        self.groupwise = any(reward.groupwise for reward in rewards)
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def apart_for(self, count: int) -> bool:
        return all(reward.apart_for(count) for reward in self.rewards)

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        number = torch.zeros(len(conditions), dtype=torch.float64)
        for reward, levels in zip(self.rewards, self.levels, strict=True):
            value = score(reward, samples, conditions, shared=True).double()
            value = torch.where(value.isfinite(), value.clamp(0, 1), torch.nan)
            number = number * levels + (value * (levels - 1)).round()
        return (number / (prod(self.levels) - 1)).float()

    def to(self, device: torch.device | str) -> "Lexicographic":
        for reward in self.rewards:
            reward.to(device)
        return self
