"""Small pipelines of the real classes with random weights and tokenizers built on the spot, saved as a user finds them.

Weights are drawn larger than networks are initialised with, so that answers depend on the text and on the level.
"""

import json
from pathlib import Path

import torch

from tests.domains.text_to_image.tiny_models import pre_tokenizers, stirred, t5_tokenizer

SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
UNET = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "norm_num_groups": 8,
}
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


def clip_tokenizer(folder: Path):
    """CLIP's tokenizer class with a vocabulary of bytes."""
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def clip_text(tokenizer, kind: str = "CLIPTextModel", seed: int = 0, **changes):
    """A text encoder of CLIP."""
    import transformers

    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = transformers.CLIPTextConfig(**{**TEXT, "vocab_size": len(tokenizer), **ids, **changes})
    return stirred(getattr(transformers, kind)(config), seed)


def vae(latent_channels: int = 4, **changes):
    """A VAE that halves the side once."""
    from diffusers import AutoencoderKL

    torch.manual_seed(3)
    return AutoencoderKL(
        block_out_channels=(16, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=latent_channels,
        norm_num_groups=8,
        sample_size=16,
        **changes,
    )


def _stable_diffusion(folder: Path, scheduler, **unet) -> None:
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    tokenizer = clip_tokenizer(folder / "tokenizer")
    StableDiffusionPipeline(
        vae=vae(),
        text_encoder=clip_text(tokenizer),
        tokenizer=tokenizer,
        unet=stirred(UNet2DConditionModel(**{**UNET, "cross_attention_dim": 32, **unet}), 1, 1.0),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def _also(folder: Path, **settings) -> None:
    """Published scheduler configurations also hold what their own scheduler ignores."""
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def sd15(folder: Path) -> None:
    """Stable Diffusion 1.5: eps-prediction, convolutions for projections, the scheduler of its release."""
    from diffusers import PNDMScheduler

    config = {key: value for key, value in SCHEDULER.items() if key != "clip_sample"}
    _stable_diffusion(folder, PNDMScheduler(**config, skip_prk_steps=True), attention_head_dim=4)
    _also(folder, clip_sample=False)


def sd2(folder: Path) -> None:
    """Stable Diffusion 2: v-prediction, linear projections, heads by block."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**SCHEDULER, prediction_type="v_prediction")
    _stable_diffusion(folder, scheduler, attention_head_dim=(4, 8), use_linear_projection=True)


def sdxl(folder: Path) -> None:
    """Stable Diffusion XL: two text encoders, pooled text and sizes as added conditions."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    tokenizer = clip_tokenizer(folder / "tokenizer")
    config = {key: value for key, value in SCHEDULER.items() if key not in ("clip_sample", "set_alpha_to_one")}
    unet = UNet2DConditionModel(
        **UNET,
        attention_head_dim=(4, 8),
        use_linear_projection=True,
        cross_attention_dim=32 + 48,
        transformer_layers_per_block=(1, 2),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
    )
    StableDiffusionXLPipeline(
        vae=vae(force_upcast=True, scaling_factor=0.13025),
        text_encoder=clip_text(tokenizer),
        text_encoder_2=clip_text(tokenizer, "CLIPTextModelWithProjection", 5, projection_dim=24, hidden_size=48),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=stirred(unet, 1, 1.0),
        scheduler=EulerDiscreteScheduler(**config, timestep_spacing="leading"),
    ).save_pretrained(folder)
    _also(folder, clip_sample=False, set_alpha_to_one=False)


def sd3(folder: Path) -> None:
    """Stable Diffusion 3: a transformer with flow matching, two CLIP encoders and T5."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import T5Config, T5EncoderModel

    tokenizer, t5 = clip_tokenizer(folder / "tokenizer"), t5_tokenizer()
    language = T5Config(vocab_size=len(t5), d_model=80, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=8,
        out_channels=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=80,
        caption_projection_dim=32,
        pooled_projection_dim=32 + 24,
        pos_embed_max_size=16,
    )
    first = clip_text(tokenizer, "CLIPTextModelWithProjection", projection_dim=32)
    first.text_projection.weight.data = torch.eye(32)  # as published, and as files in the original layout have it
    StableDiffusion3Pipeline(
        transformer=stirred(transformer, 1, 1.0),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(8, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=first,
        tokenizer=tokenizer,
        text_encoder_2=clip_text(tokenizer, "CLIPTextModelWithProjection", 5, projection_dim=24, hidden_size=48),
        tokenizer_2=tokenizer,
        text_encoder_3=stirred(T5EncoderModel(language), 7),
        tokenizer_3=t5,
    ).save_pretrained(folder)


PIPELINES = {"sd15": sd15, "sd2": sd2, "sdxl": sdxl, "sd3": sd3}
