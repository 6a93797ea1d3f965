"""Stable Diffusion 1.x, 2.x and their fine-tunings: a U-Net, one text encoder, eps- or v-prediction."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.domains.base.scheduler import ddim_config, output_of, process_of, refused
from graft_lightning.domains.text_to_image.architectures import Config
from graft_lightning.domains.text_to_image.embeddings import Embedding
from graft_lightning.domains.text_to_image.pipelines.base import (
    CLIP_TOKENS,
    Condition,
    Family,
)
from graft_lightning.processes.outputs import Output
from graft_lightning.processes.process import Process

UNUSED = ("time_cond_proj_dim", "class_embed_type", "num_class_embeds", "encoder_hid_dim", "encoder_hid_dim_type")
"""Keys of U-Nets that ask for more conditions, guidance as an embedding among them."""


class StableDiffusion(Family):
    """``StableDiffusionPipeline``."""

    pipeline = "StableDiffusionPipeline"
    text: tuple[str, ...] = ("tokenizer", "text_encoder")
    added: str | None = None

    def __init__(self, index: Config, scheduler: Config) -> None:
        # The pipeline's constructor changes outdated configurations in the same way.
        super().__init__(index, {**scheduler, "steps_offset": 1, "clip_sample": False})

    @property
    def output(self) -> Output:
        return output_of(self.scheduler)

    def process(self) -> Process:
        return process_of(self.scheduler_config(), self.output)

    def scheduler_config(self) -> Config:
        return ddim_config(self.scheduler)

    def check(self, network: Config, vae: Config) -> None:
        super().check(network, vae)
        added = {key: network.get(key) for key in UNUSED}
        for key, value in added.items():
            if value not in (None, False):
                raise refused(key, value, "a U-Net that is conditioned on more than its text is not supported")
        if network.get("addition_embed_type") != self.added:
            raise refused(
                "addition_embed_type", network.get("addition_embed_type"), f"{self.pipeline} has {self.added}"
            )

    def sample_size(self, network: Config) -> Any:
        side = network.get("sample_size")
        return 64 if isinstance(side, int) and side < 64 and self._outdated(network) else side

    def _outdated(self, network: Config) -> bool:
        """Whether the pipeline's constructor takes a side below 64 for a mistake of an old release."""
        written = re.match(r"(\d+)\.(\d+)", network.get("_diffusers_version") or "")
        return written is not None and (int(written[1]), int(written[2])) < (0, 9)

    def denoise(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        dtype = next(network.parameters()).dtype
        answer = network(x_t.to(dtype), (t - 1).long(), **self.arguments(condition, dtype), return_dict=False)
        return answer[0].to(x_t.dtype)

    def arguments(self, condition: Condition, dtype: Any) -> dict[str, Any]:
        """The condition as arguments of the U-Net."""
        return {"encoder_hidden_states": condition["prompt"].to(dtype)}

    def embed(self, pipeline: Any, texts: list[str], device: Any) -> Embedding:
        return {"prompt": pipeline.encode_prompt(texts, device, 1, False)[0]}

    def blank(self, network: Config, rows: int) -> Embedding:
        width = network["cross_attention_dim"]
        width = width if isinstance(width, int) else width[0]  # one a block, all of the same texts
        return {"prompt": torch.zeros(rows, CLIP_TOKENS, width)}
