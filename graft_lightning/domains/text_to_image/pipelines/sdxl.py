"""Stable Diffusion XL: a U-Net, two text encoders, and the sizes of image and crop as added conditions."""

from typing import Any

import torch

from graft_lightning.domains.text_to_image.architectures import Config
from graft_lightning.domains.text_to_image.embeddings import Embedding
from graft_lightning.domains.text_to_image.pipelines.base import Condition, Family
from graft_lightning.domains.text_to_image.pipelines.stable_diffusion import StableDiffusion

SIZES = 6


class StableDiffusionXL(StableDiffusion):
    """``StableDiffusionXLPipeline``, the base model without refiner."""

    pipeline = "StableDiffusionXLPipeline"
    text: tuple[str, ...] = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")
    upcast_vae = True

    def __init__(self, index: Config, scheduler: Config) -> None:
        Family.__init__(self, index, scheduler)  # this pipeline takes its scheduler as it is

    def arguments(self, condition: Condition, dtype: Any) -> dict[str, Any]:
        added = {"text_embeds": condition["pooled"].to(dtype), "time_ids": condition["time_ids"].to(dtype)}
        return {"encoder_hidden_states": condition["prompt"].to(dtype), "added_cond_kwargs": added}

    def embed(self, pipeline: Any, texts: list[str], device: Any) -> Embedding:
        prompt, _, pooled, _ = pipeline.encode_prompt(texts, device=device, do_classifier_free_guidance=False)
        if self.index.get("force_zeros_for_empty_prompt", True):  # the null condition of this model is zero
            said = torch.tensor([bool(text) for text in texts], device=prompt.device, dtype=prompt.dtype)
            prompt, pooled = prompt * said[:, None, None], pooled * said[:, None]
        return {"prompt": prompt, "pooled": pooled}

    def blank(self, network: Config, rows: int) -> Embedding:
        # What is added to the embedded time: the pooled text and six sizes, each embedded on its own.
        pooled = network["projection_class_embeddings_input_dim"] - SIZES * network["addition_time_embed_dim"]
        return {**super().blank(network, rows), "pooled": torch.zeros(rows, pooled)}

    def condition(self, embeddings: Embedding, height: int, width: int) -> Condition:
        # original size, upper left corner of the crop, size that is asked for
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32)
        prompt = embeddings["prompt"]
        return super().condition(
            {**embeddings, "time_ids": sizes.to(prompt.device).expand(len(prompt), SIZES)}, height, width
        )
