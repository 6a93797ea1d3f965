"""How strongly an inverse step contracts: eta L, measured at a state by power iteration on eta J."""

import torch
from torch import Tensor

from graft_lightning.inversion.differential import Function, Linearised
from graft_lightning.processes.noise import Noise
from graft_lightning.types import broadcast


def _normalised(x: Tensor) -> tuple[Tensor, Tensor]:
    """The direction of x, and its length ``(batch,)``, sample by sample."""
    length = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return x / broadcast(length.clamp_min(torch.finfo(x.dtype).tiny), x), length


def lipschitz(increment: Function, x: Tensor, seeds: Tensor, iterations: int = 20) -> Tensor:
    """The largest singular value of the increment's Jacobian eta J at ``x``: eta L of Eq. 8, from below.

    Below 1 everywhere, the inverse step is a contraction in the Euclidean norm.

    Args:
        increment: ``x - step(x)``.
        x: states ``(batch, *shape)``.
        seeds: of the first direction, int64 ``(batch,)``.
        iterations: of the power method on J^T J.

    Returns:
        ``(batch,)``.
    """
    linear = Linearised(increment, x)
    direction, _ = _normalised(Noise(seeds, x.device, x.dtype).normal(*x.shape[1:]))
    value = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for _ in range(iterations):
        image, value = _normalised(linear.along(direction))
        direction, _ = _normalised(linear.transposed(image))
    return value
