"""ImageReward: a BLIP that reads the prompt with the image before it, and a head fitted to human comparisons.

References:
    Xu et al., ImageReward (2023), arXiv 2304.05977; github.com/THUDM/ImageReward.
"""

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from graft_lightning.domains.text_to_image.rewards.base import DTYPES, NetworkJudge
from graft_lightning.domains.text_to_image.rewards.score_head import ScoreHead, read_weights
from graft_lightning.tensors import load_into, refuse_misfit, refuse_not_finite
from graft_lightning.types import SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the head's outputs over the authors' data; scores are standardised by them."""
LONGEST = 35
"""Tokens of the prompt that are read."""
VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 16,
    "image_size": 224,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
}
"""ViT-L/16 at 224 pixels, as settings of transformers' BlipVisionConfig."""
TEXT = {
    "vocab_size": 30524,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "encoder_hidden_size": 1024,
}
"""BERT-base with cross-attention, as settings of BlipTextConfig (whose default number of heads is another)."""

_WHERE = "the authors' is ImageReward.pt in huggingface.co/THUDM/ImageReward; set `weights` to a copy of it"
_RENAMED = (
    (r"^visual_encoder\.", "vision_model."),
    (r"\.blocks\.(\d+)\.", r".encoder.layers.\1."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
    (r"\.attn\.", ".self_attn."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"^vision_model\.norm\.", "vision_model.post_layernorm."),
    (r"^vision_model\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^vision_model\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^vision_model\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
)


class ImageReward(NetworkJudge):
    """(head(h) - mean) / std of the first hidden state h of the text encoder that attends to the image.

    Args:
        weights: the authors' file, or one with the same names (see `read_blip`).
        tokenizer: BERT's, a folder or an id on the Hugging Face hub.
        vision: settings of the image encoder that differ from `VISION`.
        text: settings of the text encoder that differ from `TEXT`.
        dtype: of the network's weights.
        batch_size: images judged at a time.
    """

    def __init__(
        self,
        weights: str,
        tokenizer: str = "google-bert/bert-base-uncased",
        vision: dict[str, Any] | None = None,
        text: dict[str, Any] | None = None,
        dtype: str = "float32",
        batch_size: int = 16,
    ) -> None:
        super().__init__(dtype, batch_size)
        self.weights = weights
        self.tokenizer = tokenizer
        self.vision = {**VISION, **(vision or {})}
        self.text = {**TEXT, **(text or {})}
        self._tokenizer: Any = None
        self._processor: Any = None

    def load(self) -> Any:
        from transformers import BertTokenizer, CLIPImageProcessorPil

        side = self.vision["image_size"]
        blip, head = read_blip(read_weights(self.weights, _WHERE), self.vision, self.text, f"weights={self.weights}")
        self._tokenizer = self.fetch(BertTokenizer.from_pretrained, "tokenizer")
        self._processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        return nn.ModuleDict({"blip": blip.to(DTYPES[self.dtype]), "head": head})

    def judge(self, images: "list[Image]", conditions: list[str]) -> Tensor:
        blip, head = self.network["blip"], self.network["head"]
        pixels = self._processor(images, return_tensors="pt")["pixel_values"]
        text = self._tokenizer(
            conditions, padding="max_length", truncation=True, max_length=LONGEST, return_tensors="pt"
        ).to(self._device)
        seen = blip.vision_model(pixels.to(self._device, blip.dtype)).last_hidden_state
        read = blip.text_encoder(
            input_ids=text.input_ids,
            attention_mask=text.attention_mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=self._device),
        ).last_hidden_state
        return (head(read[:, 0].float()) - MEAN) / STD


def read_blip(
    weights: dict[str, Tensor], vision: dict[str, Any], text: dict[str, Any], source: str = "weights"
) -> tuple[Any, ScoreHead]:
    """The network (a BlipForImageTextRetrieval) and the head of weights in the authors' names.

    ``blip.visual_encoder.*`` is a timm vision transformer and is renamed, ``blip.text_encoder.*`` keeps its names,
    ``mlp.*`` is the head. Projections and matching heads of BLIP's pre-training are left out.

    Raises:
        SettingsError: if a weight is missing, of another shape, or not finite.
    """
    from transformers import BlipConfig, BlipForImageTextRetrieval, BlipTextConfig, BlipVisionConfig

    config = BlipConfig(
        vision_config=BlipVisionConfig(**vision).to_dict(), text_config=BlipTextConfig(**text).to_dict()
    )
    blip = BlipForImageTextRetrieval(config)
    named = {renamed(name.removeprefix("blip.")): tensor for name, tensor in weights.items()}
    needed = {name for name in blip.state_dict() if name.startswith(("vision_model.", "text_encoder."))}
    if missing := sorted(needed - named.keys() - {"text_encoder.embeddings.position_ids"}):
        raise SettingsError(
            f"{source}: the weights have nothing for {missing[0]} and {len(missing) - 1} more; {_WHERE}"
        )
    read, own = {name: named[name] for name in needed & named.keys()}, blip.state_dict()
    refuse_misfit({name: own[name] for name in read}, read, source, "BLIP")
    refuse_not_finite(set(read), read, source)
    blip.load_state_dict(read, strict=False)
    head = ScoreHead(config.text_config.hidden_size)
    load_into(head, {k.removeprefix("mlp."): v for k, v in weights.items() if k.startswith("mlp.")}, source)
    return blip, head


def renamed(name: str) -> str:
    """The name in transformers' BLIP of a weight in the authors'."""
    for pattern, replacement in _RENAMED:
        if name.startswith(("visual_encoder.", "vision_model.")):
            name = re.sub(pattern, replacement, name)
    return name
