"""Stable Diffusion 1.x, 2.x and their fine-tunings: a U-Net, one text encoder, eps- or v-prediction."""

from typing import Any, get_args

import torch
from torch import Tensor, nn

from graft_lightning.domains.text_to_image.architectures import Config
from graft_lightning.domains.text_to_image.embeddings import Embedding
from graft_lightning.domains.text_to_image.pipelines.base import (
    CLIP_TOKENS,
    Condition,
    Family,
    PipelineGrid,
    refused,
    scheduler_of,
)
from graft_lightning.processes.outputs import Output
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import FromTable


class StableDiffusion(Family):
    """``StableDiffusionPipeline``."""

    pipeline = "StableDiffusionPipeline"
    text: tuple[str, ...] = ("tokenizer", "text_encoder")

    def __init__(self, index: Config, scheduler: Config) -> None:
        # The pipeline's constructor changes outdated configurations in the same way.
        super().__init__(index, {**scheduler, "steps_offset": 1, "clip_sample": False})

    @property
    def output(self) -> Output:
        prediction = self.scheduler.get("prediction_type", "epsilon")
        if prediction == "logits" or prediction not in get_args(Output):
            raise refused("prediction_type", prediction, "known are epsilon, sample and v_prediction")
        return prediction

    def process(self) -> Process:
        if "beta_schedule" not in self.scheduler and "beta_start" not in self.scheduler:
            raise refused("scheduler", self.scheduler.get("_class_name"), "its U-Net needs one with a table of betas")
        table = scheduler_of("DDIMScheduler", self.scheduler).alphas_cumprod
        keys = ("num_train_timesteps", "timestep_spacing", "steps_offset", "set_alpha_to_one")
        grid = PipelineGrid("DDIMScheduler", {key: self.scheduler[key] for key in keys if key in self.scheduler})
        return Process(GaussianPath(FromTable(table.tolist())), grid=grid)

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
        return {"prompt": torch.zeros(rows, CLIP_TOKENS, network["cross_attention_dim"])}
