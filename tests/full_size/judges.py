"""Rewards' networks with random weights, at full size or cut down, saved in their published layouts."""

import json
from pathlib import Path

import torch
from torch import nn

from tests.domains.text_to_image.tiny_models import T5, VISION, clip, t5_tokenizer
from tests.full_size.pipelines import made_in
from tests.full_size.sizes import CLIP_336, FLAN_T5_XL, VOCABULARY


def save_clip(folder: Path, tiny: bool = False) -> None:
    """The dual encoder of CLIPScore, ViT-B/32: 151 million weights."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

    clip(folder)
    if tiny:
        return
    text = json.loads((folder / "config.json").read_text())["text_config"]
    ids = {key: text[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with made_in(torch.float32):
        network = CLIPModel(CLIPConfig(text_config={**ids, "vocab_size": VOCABULARY}))  # the defaults are ViT-B/32's
    network.save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    CLIPProcessor(CLIPImageProcessorPil(), tokenizer).save_pretrained(folder)  # 224 pixels, as published


def save_clip_flant5(folder: Path, tiny: bool = False) -> None:
    """CLIP-FlanT5-XL in bfloat16: 2.85 billion weights of Flan-T5 and 304 million of CLIP ViT-L/14 at 336 pixels."""
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, T5Config
    from transformers import T5ForConditionalGeneration as Language

    from graft_lightning.domains.text_to_image.rewards.clip_flant5_network import CLIPFlanT5, projector, save_network

    vision = VISION | {"image_size": 336} if tiny else CLIP_336
    tokenizer = t5_tokenizer()
    config = T5Config(**FLAN_T5_XL | (T5 | {"vocab_size": len(tokenizer) + 28} if tiny else {}))
    with made_in(torch.bfloat16, 1):
        tower = CLIPVisionModel(CLIPVisionConfig(**vision))
        bridge = projector("mlp2x_gelu", vision["hidden_size"], config.d_model)
        t5 = Language(config)
        # Flan-T5 has a head apart from its embeddings
        t5.lm_head.weight = nn.Parameter(torch.randn_like(t5.shared.weight) / config.d_model**0.5)
        save_network(CLIPFlanT5(tower, bridge, t5), str(folder))
    side = {"height": 336, "width": 336}
    CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=side).save_pretrained(folder / "vision_tower")
    tokenizer.save_pretrained(folder)
