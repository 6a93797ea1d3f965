"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206): a multimodal transformer and flow matching."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.domains.base.scheduler import PipelineGrid, flow_config
from graft_lightning.domains.text_to_image.architectures import Config
from graft_lightning.domains.text_to_image.embeddings import Embedding
from graft_lightning.domains.text_to_image.pipelines.base import CLIP_TOKENS, Condition, Family
from graft_lightning.processes.outputs import Output
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import RectifiedFlow
from graft_lightning.processes.times import LogitNormalTime

T5_TOKENS = 256
"""The pipeline's default, of zeros where T5 is left out; they follow CLIP's."""


class StableDiffusion3(Family):
    """``StableDiffusion3Pipeline``; its T5 encoder may be left out."""

    pipeline = "StableDiffusion3Pipeline"
    network = "transformer"
    network_class = "SD3Transformer2DModel"
    text: tuple[str, ...] = (
        "tokenizer",
        "tokenizer_2",
        "tokenizer_3",
        "text_encoder",
        "text_encoder_2",
        "text_encoder_3",
    )
    optional = ("tokenizer_3", "text_encoder_3")
    lora_targets = (
        *Family.lora_targets,
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
    )
    sliced = False

    @property
    def output(self) -> Output:
        return "flow"

    def process(self) -> Process:
        config = self.scheduler_config()
        # What was trained is a logit-normal level, shifted; the shift adds its logarithm to the logit.
        distribution = LogitNormalTime(mean=math.log(config.get("shift", 1.0)))
        grid = PipelineGrid("FlowMatchEulerDiscreteScheduler", config)
        return Process(GaussianPath(RectifiedFlow()), distribution, grid)

    def scheduler_config(self) -> Config:
        return flow_config(self.scheduler)

    def sample_size(self, network: Config) -> Any:
        return network.get("sample_size", 128)

    def unscaled(self, x_0: Tensor, vae: Any) -> Tensor:
        return x_0 / vae.scaling_factor + (vae.shift_factor or 0.0)

    def denoise(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        dtype = next(network.parameters()).dtype
        timesteps = self.scheduler.get("num_train_timesteps", 1000)
        answer = network(
            hidden_states=x_t.to(dtype),
            timestep=(t * timesteps).float(),
            encoder_hidden_states=condition["prompt"].to(dtype),
            pooled_projections=condition["pooled"].to(dtype),
            return_dict=False,
        )
        return answer[0].to(x_t.dtype)

    def embed(self, pipeline: Any, texts: list[str], device: Any) -> Embedding:
        prompt, _, pooled, _ = pipeline.encode_prompt(
            texts, texts, texts, device=device, do_classifier_free_guidance=False
        )
        return {"prompt": prompt, "pooled": pooled}

    def blank(self, network: Config, rows: int) -> Embedding:
        prompt = torch.zeros(rows, CLIP_TOKENS + T5_TOKENS, network["joint_attention_dim"])
        return {"prompt": prompt, "pooled": torch.zeros(rows, network["pooled_projection_dim"])}
