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
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    clip(folder)  # tokenizer and processor; the weights are replaced
    if tiny:
        return
    text = json.loads((folder / "config.json").read_text())["text_config"]
    ids = {key: text[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with made_in(torch.float32):
        network = CLIPModel(CLIPConfig(text_config={**ids, "vocab_size": VOCABULARY}))  # the defaults are ViT-B/32's
    network.save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)


def save_clip_flant5(folder: Path, tiny: bool = False) -> None:
    """CLIP-FlanT5-XL in bfloat16: 2.85 billion weights of Flan-T5 and 304 million of CLIP ViT-L/14 at 336 pixels."""
    from safetensors.torch import save_file
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, T5Config
    from transformers import T5ForConditionalGeneration as Language

    vision_config = VISION | {"image_size": 336} if tiny else CLIP_336
    tokenizer = t5_tokenizer()
    t5_config = FLAN_T5_XL | (T5 | {"vocab_size": len(tokenizer) + 28} if tiny else {})
    tower = folder / "clip-vit-336"
    with made_in(torch.bfloat16, 1):
        CLIPVisionModel(CLIPVisionConfig(**vision_config)).save_pretrained(tower)
        side = {"height": 336, "width": 336}
        CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=side).save_pretrained(tower)
        config = T5Config(**t5_config)
        t5 = Language(config)
        t5.lm_head.weight = nn.Parameter(torch.randn_like(t5.shared.weight) / config.d_model**0.5)
        weights = {name: tensor.detach() for name, tensor in t5.state_dict().items()}
        for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
            weights.pop(name, None)
        before, after = vision_config["hidden_size"], config.d_model
        bridge = nn.Sequential(nn.Linear(before, after), nn.GELU(), nn.Linear(after, after))
        weights |= {f"mm_projector.{name}": tensor for name, tensor in bridge.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    published = {
        **{key: value for key, value in config.to_dict().items() if key != "scale_decoder_outputs"},
        "tie_word_embeddings": False,
        "model_type": "clip_t5",
        "architectures": ["CLIPT5ForConditionalGeneration"],
        "mm_vision_tower": str(tower.resolve()),
        "mm_hidden_size": before,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
    }
    (folder / "config.json").write_text(json.dumps(published, default=str))
    tokenizer.save_pretrained(folder)
