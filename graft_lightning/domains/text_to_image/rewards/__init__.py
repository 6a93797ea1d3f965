"""Rewards of text-to-image. Those that know no domain are in `graft_lightning.rejection.rewards`."""

from graft_lightning.domains.text_to_image.rewards.aesthetic import AestheticScore
from graft_lightning.domains.text_to_image.rewards.clip_flant5 import CLIPFlanT5Score
from graft_lightning.domains.text_to_image.rewards.image_reward import ImageReward
from graft_lightning.domains.text_to_image.rewards.jpeg import (
    JPEGCompressed,
    JPEGCompressibility,
    JPEGIncompressibility,
)
from graft_lightning.domains.text_to_image.rewards.similarity import CLIPScore, EmbeddingSimilarity, HPSv2, PickScore
from graft_lightning.domains.text_to_image.rewards.soft_tifa import SoftTIFA
from graft_lightning.domains.text_to_image.rewards.vqa import VQAScore
from graft_lightning.domains.text_to_image.rewards.written import WrittenScore

__all__ = [
    "AestheticScore",
    "CLIPFlanT5Score",
    "CLIPScore",
    "EmbeddingSimilarity",
    "HPSv2",
    "ImageReward",
    "JPEGCompressed",
    "JPEGCompressibility",
    "JPEGIncompressibility",
    "PickScore",
    "SoftTIFA",
    "VQAScore",
    "WrittenScore",
]
