"""The trained parameters of a module, in one piece or sharded."""

from collections.abc import Mapping

import lightning as L
import torch
from torch import Tensor


def trained(module: L.LightningModule) -> list[tuple[str, torch.nn.Parameter]]:
    """The trained parameters; those that a forward pass has left gathered are sharded again first (FSDP2)."""
    for part in module.modules():
        reshard = getattr(part, "reshard", None)
        if callable(reshard):
            reshard()
    return [(name, p) for name, p in module.named_parameters() if p.requires_grad]


def beside_trained(module: torch.nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers that training changes beside the parameters, such as running means.

    None where there are adapters: what they stand on is the reference, whose buffers stay (`TrainableDenoiser`).
    """
    if any(".lora_" in name for name, _ in module.named_parameters()):
        return []
    return list(module.named_buffers())


@torch.no_grad()
def write_beside(module: torch.nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Puts back the buffers that `beside_trained` gave, where they are kept and have the shape that they had."""
    for name, buffer in beside_trained(module):
        if name in kept and kept[name].shape == buffer.shape:
            buffer.copy_(kept[name])


def whole(value: Tensor) -> Tensor:
    """A sharded tensor in one piece (a collective call there), any other as it is."""
    full = getattr(value, "full_tensor", None)
    return full() if full is not None else value


def write(target: Tensor, value: Tensor) -> None:
    """Copies a whole tensor into one that may be sharded."""
    mesh = getattr(target, "device_mesh", None)
    if mesh is None:
        target.copy_(value)
        return
    from torch.distributed.tensor import distribute_tensor

    target.copy_(distribute_tensor(value.to(target.device), mesh, target.placements))  # type: ignore[attr-defined]
