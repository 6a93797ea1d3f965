"""Further independent uniforms out of the one that a trajectory owns.

A rule made of stages needs one uniform per stage: with the same one, a draw that passed the first stage (a low number)
would pass the next too easily. The bits of the number are therefore hashed with the stage's index. Hashes of hashes
stay independent, so rules of stages may be nested.
"""

import torch
from torch import Tensor

from graft_lightning.processes.splitmix import STEP, mixed, shifted_right, signed


def check_uniforms(uniforms: Tensor, finite: Tensor) -> None:
    """Refuse uniforms of the wrong shape or outside [0, 1).

    Raises:
        ValueError: naming what was found.
    """
    if uniforms.shape != finite.shape:
        raise ValueError(f"uniforms must have the shape of rewards, {tuple(finite.shape)}, got {tuple(uniforms.shape)}")
    outside = finite & ~((uniforms >= 0) & (uniforms < 1))
    if outside.any():
        raise ValueError(f"uniforms must lie in [0, 1), got {uniforms[outside][0].item()}")


def fresh_uniforms(uniforms: Tensor, stream: int) -> Tensor:
    """Uniforms in [0, 1), float64: a function of the given ones, independent of them and of every other stream."""
    return _in_unit_range(_mixed(_bits(uniforms), stream))


def _bits(values: Tensor) -> Tensor:
    return values.to(torch.float64).contiguous().view(torch.int64)


def _mixed(bits: Tensor, stream: int) -> Tensor:
    """A hash of the bits, stream by stream."""
    return mixed(bits + signed(STEP * (stream + 1)))


def _in_unit_range(bits: Tensor) -> Tensor:
    return shifted_right(bits, 11).to(torch.float64) / 2.0**53


def seeds_of_groups(values: Tensor, finite: Tensor, keys: Tensor | None) -> Tensor:
    """A seed made of what a group holds, int64 ``(groups, 1)``: its finite rewards in their order, and their keys.

    Args:
        values: float64 ``(groups, draws)``.
        finite: which of them count; padding changes nothing.
        keys: int64 ``(groups, draws)``; None is -1 for all.
    """
    keys = torch.full_like(finite, -1, dtype=torch.int64) if keys is None else keys
    place = _mixed(finite.long().cumsum(-1), 0)
    content = _mixed(_bits(values + 0.0) ^ place, 1) ^ _mixed(keys.long() ^ place, 2)  # -0 and 0 are one reward
    return _mixed((_mixed(content, 3) * finite).sum(-1, keepdim=True), 4)


def uniforms_of_places(like: Tensor, seeds: Tensor, stream: int) -> Tensor:
    """Fixed numbers in [0, 1), float64 in the shape of ``like``, a function of the group's seed and the place alone."""
    places = torch.arange(1, like.shape[-1] + 1, device=like.device)
    return _in_unit_range(_mixed(_mixed(places.expand(like.shape), 0) ^ seeds, stream))
