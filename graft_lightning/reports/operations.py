"""Floating-point operations of a network, counted on the meta device: neither its weights nor a machine are needed."""

import torch
from torch import nn

from graft_lightning.modules.counting import counted_operations
from graft_lightning.rejection.reference import Reference
from graft_lightning.reports.trial import pure_noise
from graft_lightning.types import on_device


def operations(reference: Reference, condition: str = "", network: nn.Module | None = None) -> int | None:
    """Floating-point operations of one evaluation of one sample, as `counted_operations` counts them.

    Args:
        reference: calls the network.
        condition: of the sample.
        network: on the meta device; the reference's own skeleton by default.

    Returns:
        The count; None where the network cannot be built or called without weights, or has nothing to count.
    """
    try:
        network = reference.meta_network() if network is None else network
        x = on_device(pure_noise(reference, [condition]), "meta")
        t = torch.full((1,), reference.process.t_max, dtype=torch.float64, device="meta")
        encoded = reference.blank([condition]).to("meta")
        with torch.no_grad(), counted_operations() as counter:
            reference.denoise(network.eval(), x, t, encoded)
    except Exception:  # whatever a network of somebody else's says of tensors without values
        return None
    return counter.get_total_flops() or None
