"""Further independent uniforms out of the one that a trajectory owns.

A rule made of stages needs one uniform per stage: with the same one, a draw that passed the first stage (a low number)
would pass the next too easily. The bits of the number are therefore hashed with the stage's index. Hashes of hashes
stay independent, so rules of stages may be nested.
"""

import torch
from torch import Tensor

MULTIPLIERS = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)
"""The two odd constants of the SplitMix64 finaliser (Steele et al. 2014), as signed 64-bit integers."""
INCREMENT = -0x61C8864680B583EB
"""2^64 divided by the golden ratio, as a signed 64-bit integer: the step between streams."""


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
    bits = uniforms.to(torch.float64).contiguous().view(torch.int64)
    # wrapped by hand to 64 bits: torch refuses a Python integer beyond them
    bits = bits + ((INCREMENT * (stream + 1) + 2**63) % 2**64 - 2**63)
    bits = (bits ^ _shift_right(bits, 30)) * MULTIPLIERS[0]
    bits = (bits ^ _shift_right(bits, 27)) * MULTIPLIERS[1]
    bits = bits ^ _shift_right(bits, 31)
    return _shift_right(bits, 11).to(torch.float64) / 2.0**53


def uniforms_of_places(like: Tensor, stream: int) -> Tensor:
    """Fixed numbers in [0, 1), float64 in the shape of ``like``; they differ between draws, not between groups."""
    places = torch.arange(1, like.shape[-1] + 1, dtype=torch.float64, device=like.device)
    return fresh_uniforms(places, stream).expand(like.shape)


def _shift_right(bits: Tensor, by: int) -> Tensor:
    """Logical shift: torch's own keeps the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
