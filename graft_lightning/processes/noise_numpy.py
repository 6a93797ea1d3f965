"""The numbers of `noise` out of random words on the CPU, by NumPy: three times as fast as the same by PyTorch."""

import math
import sys

import numpy as np

_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)


def normal(words: np.ndarray, out: np.ndarray, bits: int) -> None:
    """Two independent normal numbers of each word (Box and Muller, 1958), as `noise` defines them.

    Args:
        words: uint64 ``(*, words)``.
        out: float32 or float64 ``(*, words, 2)``, where the numbers are put.
        bits: of no account here.
    """
    halves = np.ascontiguousarray(words).view(np.uint32)
    radius = halves[..., _HIGH::2].astype(out.dtype)
    radius += 0.5
    radius *= 2.0**-32
    np.log(radius, out=radius)
    radius *= -2
    np.sqrt(radius, out=radius)
    angle = halves.view(np.int32)[..., _LOW::2].astype(out.dtype)
    angle *= math.tau * 2.0**-32
    np.multiply(radius, np.cos(angle), out=out[..., 0])
    np.sin(angle, out=angle)
    np.multiply(radius, angle, out=out[..., 1])


def uniform(words: np.ndarray, out: np.ndarray, bits: int) -> None:
    """One uniform number of each word: its uppermost bits.

    Args:
        words: uint64 ``(*, words)``.
        out: float32 or float64 ``(*, words, 1)``, where the numbers are put.
        bits: how many of each word, no more than the type of ``out`` holds exactly.
    """
    np.multiply(words >> np.uint64(64 - bits), 2.0**-bits, out=out[..., 0], casting="same_kind")
