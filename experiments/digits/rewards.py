"""Two rewards that ask for something else than the prompt: one that is decided early, and one that is decided late."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

KERNEL = ((0.0, -1.0, 0.0), (-1.0, 4.0, -1.0), (0.0, -1.0, 0.0))
"""The Laplacian of four neighbours."""


def thin(samples: Tensor, conditions: Sequence[str]) -> Tensor:
    """Little ink: minus the mean brightness of pictures in [0, 1], shape (batch, 1, height, width)."""
    return -samples.flatten(1).mean(1)


def sharp(samples: Tensor, conditions: Sequence[str]) -> Tensor:
    """How much of the ink is edges: mean absolute Laplacian over mean brightness, whatever the amount of ink."""
    kernel = samples.new_tensor(KERNEL).view(1, 1, 3, 3)
    edges = F.conv2d(F.pad(samples, (1, 1, 1, 1)), kernel).abs().flatten(1).mean(1)
    return edges / samples.flatten(1).mean(1).clamp(min=0.01)
