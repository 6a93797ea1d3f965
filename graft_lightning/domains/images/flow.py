"""Flows of images: any unconditional network of diffusers as a reference, or as the corrector of one."""

from typing import Any, Literal

from torch import Tensor, nn

from graft_lightning.domains.base import UnconditionalFlow
from graft_lightning.domains.images.architectures import Architecture
from graft_lightning.domains.images.network import DiffusersImages
from graft_lightning.processes.samplers import Euler, Sampler
from graft_lightning.ranges import Natural
from graft_lightning.types import SettingsError


class ImageFlow(DiffusersImages, UnconditionalFlow):
    """A flow of images in [-1, 1] whose network is a model of diffusers that takes an image and a time.

    Args:
        weights: a folder written by ``save_pretrained``, or an id on the Hugging Face hub. Needed where the flow is not
            trained but used; a training run writes it when it ends.
        network: what is trained; None takes the network that belongs to the weights.
        sampler: 200 steps of Euler by default.
        path: "linear", where the network gives the velocity eps - x_0, or "trigonometric", the variance-preserving
            path of correctors, where it gives the v-prediction.
        size: height and width; the network's own ``sample_size`` by default.
        time_scale: the network is given t times this.
        time_runs: "to_noise", t = 0 is data; "to_data" for models of the other convention, which at 1 - t give
            x_0 - eps.
        label: the class that a class-conditional network is asked for; of a DiT the null class by default.
        subfolder: where in ``weights`` the network is, e.g. "unet" in the folder of a pipeline.
    """

    def __init__(
        self,
        weights: str | None = None,
        network: Architecture | None = None,
        sampler: Sampler | None = None,
        path: Literal["linear", "trigonometric"] = "linear",
        size: int | None = None,
        time_scale: float = 1000.0,
        time_runs: Literal["to_noise", "to_data"] = "to_noise",
        label: Natural | None = None,
        subfolder: str | None = None,
    ) -> None:
        super().__init__(sampler or Euler(steps=200), path)
        if time_runs not in ("to_noise", "to_data"):
            raise ValueError(f"time_runs={time_runs!r}; it is 'to_noise' or 'to_data'")
        if time_runs == "to_data" and path != "linear":
            raise ValueError("time_runs='to_data' is a convention of straight flows; path must be 'linear'")
        self.weights, self.network, self.side = weights, network, size
        self.time_scale, self.time_runs, self.label, self.subfolder = time_scale, time_runs, label, subfolder

    def fingerprint(self, network: nn.Module) -> dict[str, Any]:
        """What identifies the distribution of its samples; also what the network is asked for, and how."""
        return {
            **super().fingerprint(network),
            "label": self._label(),
            "time_scale": self.time_scale,
            "time_runs": self.time_runs,
            "size": self.side or self.config["sample_size"],
        }

    def denoise(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        assert isinstance(x_t, Tensor)
        channels = self.config.get("in_channels", x_t.shape[1])
        if x_t.shape[1] != channels:
            raise SettingsError(
                f"the images have {x_t.shape[1]} channels, and the network's in_channels is {channels}; grey images "
                "are read with channels=1 (ImageFiles), others with 3"
            )
        to_data = self.time_runs == "to_data"
        time = ((1 - t if to_data else t) * self.time_scale).to(x_t.dtype)
        options = {"class_labels": condition} if condition.ndim == 1 else {}
        if self.config.get("time_embedding_type") != "fourier":
            output = network(x_t, time, **options).sample
        else:  # takes the logarithm of its time and divides by it, for scores; a velocity is undivided
            time = time.clamp_min(1e-3 * self.time_scale)
            output = network(x_t, time, **options).sample * time[:, None, None, None]
        return -output if to_data else output
