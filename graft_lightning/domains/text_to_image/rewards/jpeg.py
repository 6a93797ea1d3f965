"""Compressibility as JPEG.

References:
    Black et al., Training Diffusion Models with Reinforcement Learning (DDPO, 2023), arXiv 2305.13301.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graft_lightning.domains.text_to_image.images import jpeg
from graft_lightning.domains.text_to_image.rewards.base import ImageJudge

if TYPE_CHECKING:
    from PIL.Image import Image


class JPEGCompressibility(ImageJudge):
    """Minus the size of the picture as JPEG, in kilobytes (1,000 bytes).

    Args:
        quality: of the JPEG, 1 to 95.
    """

    sign = -1.0

    def __init__(self, quality: int = 95) -> None:
        super().__init__()
        self.quality = quality

    def judge(self, images: "list[Image]", conditions: list[str]) -> Tensor:
        return torch.tensor([self.sign * len(jpeg(image, self.quality)) / 1000 for image in images])


class JPEGIncompressibility(JPEGCompressibility):
    """The size of the picture as JPEG, in kilobytes (1,000 bytes)."""

    sign = 1.0
