"""JPEG: compressibility as a reward, and compression before another reward looks.

References:
    Black et al., Training Diffusion Models with Reinforcement Learning (DDPO, 2023), arXiv 2305.13301.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graft_lightning.domains.text_to_image.images import from_pil, jpeg
from graft_lightning.domains.text_to_image.rewards.base import ImageJudge, images, sound_rows
from graft_lightning.rejection.reward import Reward

if TYPE_CHECKING:
    from PIL.Image import Image


class JPEGCompressibility(ImageJudge):
    """Minus the size of the image as JPEG, in kilobytes (1,000 bytes).

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
    """The size of the image as JPEG, in kilobytes (1,000 bytes)."""

    sign = 1.0


class JPEGCompressed(Reward):
    """Another reward of the images after they were saved as JPEG and read again.

    Benchmarks that score saved files saw them like this: GenAI-Bench's scripts save at Pillow's default quality, 75.

    Args:
        reward: what looks at the images.
        quality: of the JPEG, 1 to 95.
    """

    def __init__(self, reward: Reward, quality: int = 75) -> None:
        self.reward = reward
        self.quality = quality
        self.groupwise = reward.groupwise

    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        from PIL import Image  # an extra of this domain

        rows = sound_rows(samples)
        read = [Image.open(io.BytesIO(jpeg(image, self.quality))) for image in images(samples[rows], self.name)]
        seen = samples.float().expand(-1, 3, -1, -1).clone()
        seen[rows] = from_pil(read).to(samples.device)
        return self.reward(seen, conditions)

    @property
    def name(self) -> str:
        return self.reward.name

    def to(self, device: torch.device | str) -> "JPEGCompressed":
        self.reward.to(device)
        return self
