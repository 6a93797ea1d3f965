"""A reward of images. Change `score`: the larger the number of an image, the sooner it is trained on.

It need not be differentiable. NaN says that an image cannot be judged: it is counted, and never accepted.
"""

from collections.abc import Sequence

from torch import Tensor


def score(samples: Tensor, conditions: Sequence[str]) -> Tensor:
    """Contrast: the standard deviation of the pixels.

    Args:
        samples: images ``(batch, channels, height, width)`` in [0, 1].
        conditions: what was asked for, a text an image.

    Returns:
        One number an image, ``(batch,)``.
    """
    return samples.flatten(1).std(1)
