"""What the reference has to know of a kind of pipeline: its process, its network's call, its text encoders."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from graft_lightning.domains.base.scheduler import refused
from graft_lightning.domains.text_to_image.architectures import Config
from graft_lightning.domains.text_to_image.embeddings import Embedding
from graft_lightning.processes.outputs import Output
from graft_lightning.processes.process import Process

CLIP_TOKENS = 77
"""Every CLIP text encoder of these pipelines pads or cuts prompts to as many tokens."""

NULL = "\0"
"""Stands for the null condition where that is not the empty prompt: no prompt holds it."""

Condition = TensorDict
"""Encoded prompts: what the network is conditioned on, with ``batch`` rows."""


class Family(ABC):
    """A kind of pipeline, with the configuration of one.

    Args:
        index: the pipeline's ``model_index.json``.
        scheduler: its ``scheduler_config.json``.

    Attributes:
        pipeline: the class in diffusers.
        network: name of the part that denoises.
        network_class: its class.
        text: names of the parts that make text embeddings.
        optional: those of them that a pipeline may lack.
        lora_targets: names of the attention projections.
        sliced: whether the network can compute attention in slices.
        upcast_vae: whether its VAE overflows in fp16, and decodes in fp32.
    """

    pipeline: str
    network: str = "unet"
    network_class: str = "UNet2DConditionModel"
    text: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    sliced: bool = True
    upcast_vae: bool = False

    def __init__(self, index: Config, scheduler: Config) -> None:
        self.index, self.scheduler = index, scheduler

    @property
    @abstractmethod
    def output(self) -> Output:
        """The network's output type."""

    @abstractmethod
    def process(self) -> Process:
        """The noise process, with the grid that the pipeline itself would use."""

    @abstractmethod
    def scheduler_config(self) -> Config:
        """The complete configuration of the scheduler of diffusers that samples so (DDIM; Euler's method of a flow).

        Raises:
            SettingsError: if none does.
        """

    @abstractmethod
    def denoise(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Calls the network in its own conventions."""

    @property
    def null(self) -> str:
        """The text whose embedding is the null condition: the empty prompt, or `NULL`."""
        return ""

    @abstractmethod
    def embed(self, pipeline: Any, texts: list[str], device: Any) -> Embedding:
        """Embeddings of texts, ``(batch, ...)`` each, by the pipeline's own code."""

    @abstractmethod
    def blank(self, network: Config, rows: int) -> Embedding:
        """Zeros of the shapes that `embed` gives, by the network's configuration: no text encoder is needed."""

    def check(self, network: Config, vae: Config) -> None:
        """Refuses networks that the pipeline calls in a way that `denoise` does not.

        Args:
            network: the network's configuration, complete.
            vae: the VAE's, likewise.

        Raises:
            SettingsError: naming the key.
        """
        if quantized := network.get("quantization_config"):
            method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
            raise refused("quantization_config", method, "weights of few bits are not supported; name the full model")
        channels, latent = network["in_channels"], vae["latent_channels"]
        if channels != latent:
            raise refused("in_channels", channels, f"the VAE has latent_channels={latent}: no text-to-image network")
        if (out := network["out_channels"] or channels) != channels:
            raise refused("out_channels", out, f"in_channels={channels} must be as many")
        if (name := vae.get("_class_name", "AutoencoderKL")) != "AutoencoderKL":
            raise refused("vae", name, "only AutoencoderKL is supported")

    def sample_size(self, network: Config) -> Any:
        """Side or sides of the latents that the pipeline makes where none are asked for; None if it says nothing."""
        return network.get("sample_size")

    def unscaled(self, x_0: Tensor, vae: Any) -> Tensor:
        """Latents as the VAE's decoder takes them, by the formula of the pipeline; ``vae`` is its configuration."""
        return x_0 / vae.scaling_factor

    def scaled(self, latents: Tensor, vae: Any) -> Tensor:
        """Latents as the network takes them, from those of the VAE's encoder: `unscaled` backwards."""
        shift = self.unscaled(torch.zeros_like(latents), vae)  # it is linear, number by number
        return (latents - shift) / (self.unscaled(torch.ones_like(latents), vae) - shift)

    def condition(self, embeddings: Embedding, height: int, width: int) -> Condition:
        """What the network is conditioned on, from embeddings ``(batch, ...)`` and the size of the images."""
        return TensorDict(embeddings, batch_size=[len(next(iter(embeddings.values())))])
