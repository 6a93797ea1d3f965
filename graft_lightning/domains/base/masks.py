"""Masks of padded batches: bool ``(batch, width)``, True where a row has an element. The elements come first."""

import torch
from torch import Tensor


def mask_of(counts: Tensor, width: int) -> Tensor:
    """Where rows have elements, bool ``(batch, width)``.

    Args:
        counts: of the elements, integers ``(batch,)``.
        width: elements per row.
    """
    return torch.arange(width, device=counts.device) < counts[:, None]


def centred(values: Tensor, mask: Tensor) -> Tensor:
    """Values minus their mean over the elements of the row, zero where padded.

    Args:
        values: ``(batch, elements, features)``.
        mask: bool ``(batch, elements)``.
    """
    weight = mask[..., None].to(values.dtype)
    mean = (values * weight).sum(-2, keepdim=True) / weight.sum(-2, keepdim=True).clamp(min=1)
    return (values - mean) * weight
