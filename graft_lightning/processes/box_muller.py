"""Normal numbers out of random words on the CPU, by NumPy: three times as fast as the same operations of PyTorch."""

import math
import sys

import numpy as np

_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)


def box_muller(words: np.ndarray, out: np.ndarray) -> None:
    """Two independent normal numbers of each word (Box and Muller, 1958), as `noise` defines them.

    Args:
        words: of 64 bits, ``(*, words)``.
        out: float32 or float64 ``(*, words, 2)``, where the numbers are put.
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
