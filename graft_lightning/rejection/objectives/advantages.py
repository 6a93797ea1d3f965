"""Advantages: how much better a draw is than the others of its condition, in units that all conditions share."""

import torch
from torch import Tensor

LIMIT = 5.0
"""Advantages beyond are taken as this."""


def advantages(rewards: Tensor) -> Tensor:
    """(r - mean within the condition) / (standard deviation of all rewards + 1e-4), within `LIMIT`.

    Args:
        rewards: ``(conditions, draws)``; those that are not finite count in no mean, and have advantage 0.

    Returns:
        float64 ``(conditions, draws)``.
    """
    rewards = rewards.double()
    finite = rewards.isfinite()
    known = torch.where(finite, rewards, torch.nan)
    spread = known[finite].std(unbiased=False) if finite.any() else torch.tensor(1.0)
    return ((known - known.nanmean(1, keepdim=True)) / (spread + 1e-4)).clamp(-LIMIT, LIMIT).nan_to_num(0.0)
