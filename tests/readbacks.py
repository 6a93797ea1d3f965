"""What a step must not do: wait for a device, or copy between devices."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from graft_lightning.processes.noise import Noise

WAITING = {
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::equal",
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::repeat_interleave.Tensor",
}
"""Operators whose answer, or its shape, the host must have before it goes on."""


class ReadBacks(TorchDispatchMode):
    """Counts operators that the host waits for, and copies from one device to another.

    A copy to another type on the same device is none. What never passes a dispatcher on the CPU (``tolist``) fails by
    itself on the meta device, which has no values to read.

    Attributes:
        found: how often, by operator.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        answer = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name in WAITING or self._by_mask(name, args):
            self.found[name] += 1
        elif name in ("aten::_to_copy", "aten::copy_"):
            # copy_ answers with its target, so that the devices of all involved are compared
            devices = {tensor.device for tensor in [*given, answer]}
            if len(devices) > 1:
                self.found[name] += 1
        return answer

    @staticmethod
    def _by_mask(name: str, args: Any) -> bool:
        """Whether elements are chosen by a mask: how many there are must be read back."""
        return name == "aten::index" and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        )


class Supplied(Noise):
    """Numbers made on the device, one call each, so that nothing of how they are made is counted.

    Args:
        count: trajectories.
        device: of the numbers.
    """

    def __init__(self, count: int, device: str) -> None:
        self.count, self.device, self.dtype = count, device, torch.float32

    def __len__(self) -> int:
        return self.count

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.count, *shape, device=self.device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self.count, *shape, device=self.device)
