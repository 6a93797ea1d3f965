"""Images as models of the outside world want them: 8-bit, RGB, square, compressed.

Samples are float tensors ``(batch, channels, height, width)`` in [0, 1]; one channel is grey.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from graft_lightning.domains.base.images import check_range, to_pixels

if TYPE_CHECKING:
    from PIL.Image import Image


def to_uint8(samples: Tensor) -> np.ndarray:
    """Samples as ``(batch, height, width, 3)`` bytes, clamped, rounded half to even as in diffusers, grey repeated.

    Raises:
        ValueError: if the samples are not images.
    """
    if samples.ndim != 4 or samples.shape[1] not in (1, 3) or not samples.is_floating_point():
        raise ValueError(
            f"samples of shape {tuple(samples.shape)} and type {samples.dtype} are no images; "
            "expected floats in [0, 1] of shape (batch, 3 or 1, height, width)"
        )
    return np.ascontiguousarray(to_pixels(samples))


def to_pil(samples: Tensor) -> "list[Image]":
    """Samples as RGB images, for whoever judges them.

    Raises:
        ValueError: if the samples are not images, or have values outside [0, 1] by more than rounding.
    """
    from PIL import Image  # an extra of this domain

    check_range(samples)
    return [Image.fromarray(pixels) for pixels in to_uint8(samples)]


def from_pil(images: "Sequence[Image]") -> Tensor:
    """RGB images of one size as samples, float32 ``(batch, 3, height, width)`` in [0, 1]."""
    if not images:
        return torch.zeros(0, 3, 1, 1)
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2) / 255


def jpeg(image: "Image", quality: int) -> bytes:
    """A image as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def squared(image: "Image", colour: tuple[int, int, int]) -> "Image":
    """A image in the middle of the smallest square that holds it, the rest in ``colour``."""
    from PIL import Image

    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square
