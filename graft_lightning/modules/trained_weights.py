"""The trained parameters of a module, in one piece or sharded."""

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
