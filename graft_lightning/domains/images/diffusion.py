"""DDPMs of images as diffusers publishes them: a network of pixels, and a scheduler."""

import json
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.domains.base.loading import ModelUnavailableError, loaded
from graft_lightning.domains.base.scheduler import Config, as_loaded, ddim_config, output_of, process_of, refused
from graft_lightning.domains.images.architectures import PUBLISHED
from graft_lightning.domains.images.network import DiffusersImages
from graft_lightning.durable import write_text
from graft_lightning.processes.outputs import Output
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, Sampler
from graft_lightning.ranges import Natural
from graft_lightning.types import SettingsError

log = logging.getLogger(__name__)

PIPELINES = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline")
"""Those whose network sees pixels and is asked for one thing."""


class ImageDiffusion(DiffusersImages):
    """An unconditional DDPM of images, such as ``google/ddpm-celebahq-256``: ``DDPMPipeline`` and ``DDIMPipeline``.

    Process, grid and output type come from the pipeline's own scheduler configuration. Where x_0 is clipped, eps is
    computed anew, as in `DDPMScheduler`, and in `DDIMScheduler` with ``use_clipped_model_output``.

    Args:
        model: a folder written by ``save_pretrained``, or an id on huggingface.co.
        sampler: by default 50 steps of DDIM with eta 1, which are those of DDPM, and ``clip_sample`` as the pipeline
            has it; without a grid of its own it visits the levels of the pipeline's scheduler.
        label: the class that a class-conditional network is asked for.
        compile: compile the network (``torch.compile``): minutes at first, then faster steps, equal up to rounding.
    """

    _unsized = "the images' size is that in config.json"
    _sampler: Sampler | None = None

    def __init__(
        self,
        model: str,
        sampler: Sampler | None = None,
        label: Natural | None = None,
        compile: bool = False,  # noqa: A002 - the word that users of torch look for
    ) -> None:
        self.weights = self.model = model
        super().__init__(sampler)  # type: ignore[arg-type] # the default clips as the pipeline does, which is read later
        self.label, self.compile = label, compile

    @property
    def _what(self) -> str:
        return "ImageDiffusion, setting `model`"

    @property
    def sampler(self) -> Sampler:
        """How samples are drawn."""
        if self._sampler is None:
            self._sampler = DDIM(steps=50, eta=1.0, clip_sample=self._clip)
        return self._sampler

    @sampler.setter
    def sampler(self, sampler: Sampler | None) -> None:
        self._sampler = sampler

    @property
    def _clip(self) -> float | None:
        """The bound of |x_0| that the pipeline's own scheduler keeps to."""
        return float(self.scheduler["clip_sample_range"]) if self.scheduler["clip_sample"] else None

    @property
    def _published(self) -> tuple[Config, Config] | None:
        """Network and scheduler of a model on the hub that are known without it."""
        return None if self.weights_file.is_dir() else PUBLISHED.get(self._source())

    def _stored(self) -> Config:
        if self._published:
            return self._published[0]
        made = self._index.get("unet")
        return {"_class_name": made[1] if isinstance(made, list) else "UNet2DModel", **super()._stored()}

    @cached_property
    def _index(self) -> Config:
        """``model_index.json``: the pipeline's class, and of what its parts are made."""
        from diffusers import DDPMPipeline

        return dict(loaded(DDPMPipeline.load_config, self._source(), self._what))

    @cached_property
    def subfolder(self) -> str | None:  # type: ignore[override]
        """Where the network is."""
        from diffusers import UNet2DModel

        return self._place("unet", UNet2DModel)

    def _place(self, part: str, kind: Any) -> str | None:
        """The folder of a part; None where it is beside ``model_index.json``, as in older repositories."""
        if self._published:
            return None
        if self.weights_file.is_dir():
            return part if (self.weights_file / part).is_dir() else None
        try:
            loaded(kind.load_config, self._source(), self._what, subfolder=part)
        except ModelUnavailableError:
            return None
        return part

    @cached_property
    def scheduler(self) -> Config:
        """The pipeline's scheduler as a complete configuration of DDIMScheduler.

        Raises:
            SettingsError: for another kind of pipeline, or what no sampler here repeats; names the key.
            ModelUnavailableError: if it cannot be had; says what to do.
        """
        config = self._published[1] if self._published else self._scheduler()
        found = ddim_config(config, clips=True)
        if config.get("variance_type", "fixed_small") not in ("fixed_small", "fixed_small_log"):
            log.warning(
                "model=%s: its variance_type is %r; samples here are drawn with that of the posterior, 'fixed_small'",
                self.model,
                config["variance_type"],
            )
        clip = float(found["clip_sample_range"]) if found["clip_sample"] else None
        if self._sampler is not None and self._sampler.clip_sample != clip:
            log.warning(
                "model=%s: its own scheduler has clip_sample %s, and sampler.clip_sample is %s: other samples than the "
                "pipeline's",
                self.model,
                clip,
                self._sampler.clip_sample,
            )
        return found

    def _scheduler(self) -> Config:
        from diffusers import DDPMScheduler

        name = self._index.get("_class_name")
        if name not in PIPELINES:
            raise SettingsError(
                f"model={self.model} is a {name}; ImageDiffusion reads {', '.join(PIPELINES)}, and DiffusersReference "
                "text-to-image pipelines"
            )
        part = self._place("scheduler", DDPMScheduler)
        config = loaded(DDPMScheduler.load_config, self._source(), self._what, subfolder=part)
        return as_loaded({"_class_name": "DDPMScheduler", **config}, self._index.get("scheduler"))

    @property
    def output(self) -> Output:  # type: ignore[override]
        """The network's output type."""
        return output_of(self.scheduler)

    @cached_property
    def process(self) -> Process:
        if self.config.get("time_embedding_type") == "fourier":
            raise refused("time_embedding_type", "fourier", "a network of scores is given sigma, not a timestep")
        return process_of(self.scheduler, self.output)

    def fingerprint(self, network: nn.Module) -> dict[str, Any]:
        """What identifies the distribution of its samples; also what the network is asked for."""
        return {**super().fingerprint(network), "label": self._label()}

    def save(self, network: nn.Module, path: Path, provenance: dict[str, Any]) -> None:
        """Writes a pipeline that `build`, and ``DDPMPipeline.from_pretrained``, reads.

        Raises:
            SettingsError: if the folder is that of the base itself, which would be lost; or as the network's own.
        """
        if path.absolute() == self.weights_file.absolute():
            raise SettingsError(f"SaveReference.path: {path} holds the base itself; name another folder")
        import diffusers

        super().save(network, path, provenance)
        config = self._published[1] if self._published else self._scheduler()
        scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
        folder = path / "scheduler" if self.subfolder else path
        folder.mkdir(exist_ok=True)
        write_text(folder / "scheduler_config.json", scheduler.to_json_string())
        parts = {
            "scheduler": ["diffusers", config["_class_name"]],
            "unet": ["diffusers", self.config["_class_name"]],
        }
        index = {"_class_name": "DDPMPipeline", "_diffusers_version": diffusers.__version__, **parts}
        write_text(path / "model_index.json", json.dumps(index, indent=1) + "\n")

    def denoise(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        assert isinstance(x_t, Tensor)
        options = {"class_labels": condition} if condition.ndim == 1 else {}
        output: Tensor = network(x_t, t.to(torch.int64) - 1, **options).sample  # level n is timestep n - 1
        return output
