"""Stable Diffusion XL: a U-Net, two text encoders, and the sizes of image and crop as added conditions."""

from typing import Any

import torch
from torch import Tensor

from graft_lightning.domains.text_to_image.architectures import Config
from graft_lightning.domains.text_to_image.embeddings import Embedding
from graft_lightning.domains.text_to_image.pipelines.base import NULL, Condition, Family
from graft_lightning.domains.text_to_image.pipelines.stable_diffusion import StableDiffusion

SIZES = 6


class StableDiffusionXL(StableDiffusion):
    """``StableDiffusionXLPipeline``, the base model without refiner."""

    pipeline = "StableDiffusionXLPipeline"
    text: tuple[str, ...] = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")
    upcast_vae = True
    added = "text_time"

    def __init__(self, index: Config, scheduler: Config) -> None:
        Family.__init__(self, index, scheduler)  # this pipeline takes its scheduler as it is

    def sample_size(self, network: Config) -> Any:
        return network.get("sample_size")

    def unscaled(self, x_0: Tensor, vae: Any) -> Tensor:
        mean, std = vae.get("latents_mean"), vae.get("latents_std")
        if mean is None or std is None:
            return x_0 / vae.scaling_factor
        mean, std = (torch.tensor(values).view(1, -1, 1, 1).to(x_0) for values in (mean, std))
        return x_0 * std / vae.scaling_factor + mean

    def arguments(self, condition: Condition, dtype: Any) -> dict[str, Any]:
        added = {"text_embeds": condition["pooled"].to(dtype), "time_ids": condition["time_ids"].to(dtype)}
        return {"encoder_hidden_states": condition["prompt"].to(dtype), "added_cond_kwargs": added}

    @property
    def null(self) -> str:
        return NULL if self.index.get("force_zeros_for_empty_prompt", True) else ""

    def embed(self, pipeline: Any, texts: list[str], device: Any) -> Embedding:
        said = ["" if text == NULL else text for text in texts]
        prompt, _, pooled, _ = pipeline.encode_prompt(said, device=device, do_classifier_free_guidance=False)
        kept = torch.tensor([text != NULL for text in texts], device=prompt.device, dtype=prompt.dtype)
        prompt, pooled = prompt * kept[:, None, None], pooled * kept[:, None]
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
