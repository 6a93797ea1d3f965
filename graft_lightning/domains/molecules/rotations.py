"""Random rotations, for networks that are to learn what `egnn` has built in."""

import torch
from tensordict import TensorDict
from torch import Tensor


def random_rotations(normal: Tensor) -> Tensor:
    """Rotation matrices, uniform on SO(3), ``(batch, 3, 3)``.

    Four independent normal numbers, normalised, are a uniform unit quaternion.

    Args:
        normal: standard normal numbers ``(batch, 4)``.
    """
    w, x, y, z = torch.nn.functional.normalize(normal, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def rotated(molecules: TensorDict, rotations: Tensor) -> TensorDict:
    """Molecules with each one's positions turned by its rotation ``(batch, 3, 3)``; everything else is shared."""
    turned = molecules.clone(recurse=False)
    turned["positions"] = molecules["positions"] @ rotations.mT
    return turned
