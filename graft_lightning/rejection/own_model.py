"""Any network as a reference, without a class of one's own."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.processes.outputs import Output
from graft_lightning.processes.paths import GaussianPath, Path
from graft_lightning.processes.process import Process, Shape
from graft_lightning.processes.samplers import Sampler
from graft_lightning.processes.schedules import RectifiedFlow
from graft_lightning.rejection.reference import Reference


class OwnModel(Reference):
    """A network that somebody has: called as ``network(x_t, t, condition)``, in the project's own conventions.

    t = 0 is the data, t = T pure noise; ``t`` comes as float64 ``(batch,)``: a network that counts the other way
    round, or wants another type, is wrapped in a function that turns it. By default the model is a rectified flow with
    t in [0, 1], x_t = (1 - t) x_0 + t eps, whose network gives the velocity eps - x_0.

    Args:
        network: the trained network; it is copied, never changed.
        sampler: how samples are drawn.
        shape: of one state, without the batch.
        output: "flow" (eps - x_0), "epsilon", "sample" (x_0) or "v_prediction".
        process: a `Process`, or a path; a rectified flow by default.
        encode: conditions -> what the network gets, with ``batch`` rows; by default an empty row each.
        decode: finished states -> samples; the states themselves by default.
        guidance_scale: classifier-free guidance; 1 is none. The null condition is "".
    """

    def __init__(
        self,
        network: nn.Module,
        sampler: Sampler,
        shape: Sequence[int],
        output: Output = "flow",
        process: Process | Path[Any] | None = None,
        encode: Callable[[Sequence[str]], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
        guidance_scale: float = 1.0,
    ) -> None:
        super().__init__(sampler, guidance_scale)
        self.output = output
        self._network, self._shape, self._encode, self._decode = network, tuple(shape), encode, decode
        path = GaussianPath(RectifiedFlow()) if process is None else process
        self._process = path if isinstance(path, Process) else Process(path)

    @property
    def process(self) -> Process:
        return self._process

    def build(self, pretrained: bool = True) -> nn.Module:
        """A copy of the network; with its weights drawn anew, where its layers can do so, if not ``pretrained``."""
        network = copy.deepcopy(self._network)
        if not pretrained:
            for module in network.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
        return network

    def denoise(self, network: nn.Module, x_t: Any, t: Tensor, condition: Any) -> Any:
        found: Tensor = network(x_t, t, condition)
        return found.to(x_t.dtype)  # levels in float64 would make it more precise than it is

    def encode(self, conditions: Sequence[str], device: torch.device | str) -> Any:
        encoded = torch.zeros(len(conditions), 0) if self._encode is None else self._encode(conditions)
        return encoded.to(device)

    def shape(self, conditions: Sequence[str]) -> Shape | Mapping[str, Shape]:
        return self._shape

    def decode(self, x_0: Any) -> Any:
        return x_0 if self._decode is None else self._decode(x_0)
