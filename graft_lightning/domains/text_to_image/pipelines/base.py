"""What the reference has to know of a kind of pipeline: its process, its network's call, its text encoders."""

from abc import ABC, abstractmethod
from inspect import signature
from typing import Any

from tensordict import TensorDict
from torch import Tensor, nn

from graft_lightning.domains.text_to_image.architectures import Config
from graft_lightning.domains.text_to_image.embeddings import Embedding
from graft_lightning.processes.grids import Grid, checked
from graft_lightning.processes.outputs import Output
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import Schedule
from graft_lightning.types import SettingsError

CLIP_TOKENS = 77
"""Every CLIP text encoder of these pipelines pads or cuts prompts to as many tokens."""

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
        lora_targets: names of the attention projections.
        sliced: whether the network can compute attention in slices.
        upcast_vae: whether its VAE overflows in fp16, and decodes in fp32.
    """

    pipeline: str
    network: str = "unet"
    network_class: str = "UNet2DConditionModel"
    text: tuple[str, ...] = ()
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
    def denoise(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Calls the network in its own conventions."""

    @abstractmethod
    def embed(self, pipeline: Any, texts: list[str], device: Any) -> Embedding:
        """Embeddings of texts, ``(batch, ...)`` each, by the pipeline's own code. "" is the null condition."""

    @abstractmethod
    def blank(self, network: Config, rows: int) -> Embedding:
        """Zeros of the shapes that `embed` gives, by the network's configuration: no text encoder is needed."""

    def condition(self, embeddings: Embedding, height: int, width: int) -> Condition:
        """What the network is conditioned on, from embeddings ``(batch, ...)`` and the size of the images."""
        return TensorDict(embeddings, batch_size=[len(next(iter(embeddings.values())))])


class PipelineGrid(Grid):
    """The levels that a scheduler of diffusers would visit: its spacing, offset, shift and last level.

    Args:
        scheduler: the class in diffusers.
        config: its configuration.
    """

    def __init__(self, scheduler: str, config: Config) -> None:
        self.scheduler, self.config = scheduler, config

    def levels(self, schedule: Schedule, steps: int) -> list[float]:
        scheduler = scheduler_of(self.scheduler, self.config)
        scheduler.set_timesteps(steps)
        if schedule.discrete:
            # Network timestep t - 1 is level t; the last step goes to the data or to the table's own first level.
            levels = [float(t) + 1 for t in reversed(scheduler.timesteps.tolist())]
            return checked([0.0 if self.config.get("set_alpha_to_one", True) else 1.0, *levels], schedule, steps)
        return checked(scheduler.sigmas.double().flip(0).tolist(), schedule, steps)


def scheduler_of(class_name: str, config: Config) -> Any:
    """A scheduler of diffusers from the configuration of any other; what it does not know is left out."""
    import diffusers

    kind = getattr(diffusers, class_name)
    known = signature(kind.__init__).parameters
    return kind(**{name: value for name, value in config.items() if name in known})


def refused(setting: str, value: Any, instead: str) -> SettingsError:
    """An error about a pipeline's own configuration."""
    return SettingsError(f"the pipeline's configuration has {setting}={value!r}; {instead}")
