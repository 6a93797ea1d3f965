"""The reward of a pool that waits for a person."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graft_lightning.rejection.reward import Reward


class Unscored(Reward):
    """0 for every sample: for a pool that is filled to be looked at, and accepted from by a person's verdicts."""

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        return torch.zeros(len(conditions))
