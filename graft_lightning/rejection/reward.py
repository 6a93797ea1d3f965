"""Rewards: what a sample is worth."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Reward(ABC):
    """Scores finished samples. Differentiability is never asked for.

    Constructors load nothing; networks and data are loaded by the first call. A score may be NaN, where a sample
    cannot be judged: it is counted and never accepted.

    Attributes:
        groupwise: True if a sample's score depends on the other samples of its condition; such a reward is given whole
            groups.
    """

    groupwise: bool = False

    @abstractmethod
    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        """Scores, float32 ``(batch,)``.

        Args:
            samples: what the reference's decoder returns, ``batch`` of them (images: ``(batch, C, H, W)`` in [0, 1]).
            conditions: the condition of each sample.
        """

    def to(self, device: torch.device | str) -> "Reward":
        """Moves what the reward owns to ``device``. Returns itself."""
        return self

    def weight_bytes(self) -> int | None:
        """Bytes of its networks; 0 where it has none, None where that is not known before they are there."""
        return 0

    @property
    def name(self) -> str:
        """The name of the column in pools and logs: the class's, unless a reward says otherwise."""
        return type(self).__name__


def score(reward: Reward, samples: Any, conditions: Sequence[str]) -> Tensor:
    """Calls a reward and checks what comes back. Returns float32 ``(batch,)`` on the CPU.

    Raises:
        ValueError: if the result is not one number a sample.
    """
    with torch.no_grad():
        scores = torch.as_tensor(reward(samples, conditions))
    if scores.shape != (len(conditions),):
        raise ValueError(
            f"reward {reward.name} returned shape {tuple(scores.shape)} for {len(conditions)} samples; "
            f"it must return one score a sample, shape ({len(conditions)},)"
        )
    return scores.detach().to("cpu", torch.float32)
