"""The finaliser of SplitMix64: a bijection of 64 bits after which every bit depends on every bit.

The one integer hash of the package: seeds out of seeds, shuffles, further uniforms of a trajectory. Numbers are int64
and stand for 64 bits without a sign; sums and products wrap. They come as tensors or as NumPy's arrays, whose small
operations take a third of the time; not as its scalars, which warn where they wrap.

References:
    Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
"""

from typing import TypeVar

import numpy as np
from torch import Tensor

Bits = TypeVar("Bits", Tensor, np.ndarray)


def signed(bits: int) -> int:
    """The lowest 64 bits of an integer, as the int64 that PyTorch takes: it refuses a Python integer beyond."""
    return (bits + 2**63) % 2**64 - 2**63


STEP = signed(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio: what a SplitMix64 generator adds between two numbers."""

_MULTIPLIERS = signed(0xBF58476D1CE4E5B9), signed(0x94D049BB133111EB)


def shifted_right(bits: Bits, by: int) -> Bits:
    """Logical shift by 1 to 63 places; that of int64 repeats the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def mixed(bits: Bits) -> Bits:
    """The finaliser, element by element."""
    bits = (bits ^ shifted_right(bits, 30)) * _MULTIPLIERS[0]
    bits = (bits ^ shifted_right(bits, 27)) * _MULTIPLIERS[1]
    return bits ^ shifted_right(bits, 31)


def combined(first: Bits, *others: Bits | int) -> Bits:
    """A 64-bit hash of tuples of integers, int64 in their common shape; every bit and the order count.

    Each further part says which number is taken of the SplitMix64 generator that the parts before it have seeded.

    Args:
        first: int64.
        others: int64, or one Python integer for all, of which the lowest 64 bits count.
    """
    bits = mixed(first + STEP)
    for other in others:
        bits = mixed(bits + (signed((other + 1) * STEP) if isinstance(other, int) else (other + 1) * STEP))
    return bits
