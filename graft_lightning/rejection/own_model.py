"""Any network as a reference, without a class of one's own."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.identity import describe
from graft_lightning.processes.outputs import Output
from graft_lightning.processes.paths import GaussianPath, Path
from graft_lightning.processes.process import Process, Shape
from graft_lightning.processes.samplers import Sampler
from graft_lightning.processes.schedules import RectifiedFlow
from graft_lightning.rejection.reference import Reference
from graft_lightning.types import FIELD, SettingsError, as_state, on_device

Call = Callable[[nn.Module, Any, Tensor, Any], Any]
"""``(network, x_t, t, condition) -> raw output``."""


class OwnModel(Reference):
    """A network that somebody has, called as ``network(x_t, t, condition)``.

    *Time*: t = 0 is the data, t = T pure noise. Under a continuous schedule, that of a flow, the network gets t
    ``(batch,)`` in the dtype of the state; under a discrete one, that of DDPM, its timesteps 0 .. T - 1, int64: the
    level less 1. *Output*: by default the velocity eps - x_0 of the path x_t = (1 - t) x_0 + t eps, which points from
    the data to the noise.

    A network with other conventions is called by ``call``, which is given the levels themselves, float64 (or
    ``(batch, fields)``, where a sampler moves one field at a time). One that was trained on x_1 - x_0, from noise at
    time 0 to data at time 1, is ``call=lambda network, x, t, c: -network(x, 1 - t.float())``.

    For de-duplication keys, or files of samples, derive from this class and write the method (`Codec`).

    Args:
        network: the trained network; it is copied, never changed.
        sampler: how samples are drawn.
        shape: of one state, without the batch; by field where the process has several.
        output: "flow" (eps - x_0), "epsilon", "sample" (x_0), "v_prediction" or "logits"; by field for several.
        process: a `Process`, or a path; a rectified flow by default, which only "flow" has.
        encode: conditions -> what the network gets, with ``batch`` rows; by default an empty row each.
        decode: finished states -> samples; the states themselves by default.
        guidance_scale: classifier-free guidance; 1 is none. The null condition is "".
        call: how the network is called.
        lora_targets: names of the layers that `LoRA` adapts.

    Raises:
        SettingsError: if the process is not given, and does not follow from the output; if shape or output name other
            fields than the process; if guidance has no condition to leave out.

    Example:
        >>> import torch
        >>> from graft_lightning.api import Euler, OwnModel
        >>> model = OwnModel(torch.nn.Linear(2, 2), Euler(20), (2,), call=lambda network, x, t, c: network(x))
        >>> model.denoise(model.build(), torch.zeros(3, 2), torch.ones(3), model.encode(["", "", ""], "cpu")).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        network: nn.Module,
        sampler: Sampler,
        shape: Sequence[int] | Mapping[str, Sequence[int]],
        output: Output | dict[str, Output] = "flow",
        process: Process | Path[Any] | None = None,
        encode: Callable[[Sequence[str]], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
        guidance_scale: float = 1.0,
        call: Call | None = None,
        lora_targets: Sequence[str] = (),
    ) -> None:
        super().__init__(sampler, guidance_scale)
        if process is None and output != "flow":
            raise SettingsError(
                f"output={output!r} does not say on which process the network was trained: set process, to "
                "GaussianPath(Linear()) say; only output='flow' has one by default"
            )
        if guidance_scale != 1 and encode is None:
            raise SettingsError(f"guidance_scale={guidance_scale:g}, but without encode there is no condition to guide")
        path = GaussianPath(RectifiedFlow()) if process is None else process
        self._process = path if isinstance(path, Process) else Process(path)
        shapes = shape if isinstance(shape, Mapping) else {FIELD: shape}
        for key, given in (("shape", shapes), ("output", output)):
            if isinstance(given, Mapping) and given.keys() != self._process.paths.keys():
                raise SettingsError(
                    f"{key} is given for {sorted(given)}; the process's fields are {sorted(self._process.paths)}"
                )
        self.output, self.lora_targets = output, tuple(lora_targets)
        self._shapes: dict[str, Shape] = {name: tuple(sizes) for name, sizes in shapes.items()}
        self._network, self._encode, self._decode, self._call = network, encode, decode, call

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

    def meta_network(self) -> nn.Module:
        return copy.deepcopy(self._network).to("meta")

    def denoise(self, network: nn.Module, x_t: Any, t: Tensor, condition: Any) -> Any:
        if self._call is not None:
            return self._call(network, x_t, t, condition)
        if self._process.schedule.discrete:
            return network(x_t, t.long() - 1, condition)
        floating = [field.dtype for field in as_state(x_t).values() if field.is_floating_point()]
        return network(x_t, t.to(floating[0] if floating else torch.get_default_dtype()), condition)

    def encode(self, conditions: Sequence[str], device: torch.device | str) -> Any:
        encoded = torch.zeros(len(conditions), 0) if self._encode is None else self._encode(conditions)
        return on_device(encoded, device)

    def shape(self, conditions: Sequence[str]) -> Shape | Mapping[str, Shape]:
        return self._shapes[FIELD] if self._shapes.keys() == {FIELD} else self._shapes

    def decode(self, x_0: Any) -> Any:
        return x_0 if self._decode is None else self._decode(x_0)

    def fingerprint(self, network: nn.Module) -> dict[str, Any]:
        """`Reference.fingerprint`, and what decides the samples of a network that no class of its own tells apart.

        Networks of equal weights may differ in code, output, or in how they are called. Functions count by their source
        text and what they have captured.
        """
        own = {
            "network": self._network,
            "output": self.output,
            "shape": self._shapes,
            "encode": self._encode,
            "decode": self._decode,
            "call": self._call,
        }
        return {**super().fingerprint(network), **{key: describe(value) for key, value in own.items()}}
