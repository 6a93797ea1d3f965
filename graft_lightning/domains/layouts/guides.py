"""Guides: the six lines on which an element may be aligned with another, and what elements cover of each other."""

import torch
from torch import Tensor

from graft_lightning.domains.layouts.layout import edges

LARGE = 2.0
"""A distance that no two guides of a page have."""


def guides(box: Tensor) -> Tensor:
    """Left, centre, right, then top, centre, bottom of boxes ``(..., 4)``: ``(..., 6)``."""
    left, top, right, bottom = edges(box).unbind(-1)
    return torch.stack([left, box[..., 0], right, top, box[..., 1], bottom], -1)


def nearest_guides(box: Tensor, partners: Tensor) -> Tensor:
    """The least distance between a guide of an element and the same guide of a partner, ``(batch, elements)``.

    0 for an element without a partner, as all published definitions have it. No element is its own partner.

    Args:
        box: centre and size as shares of the page's sides, ``(batch, elements, 4)``.
        partners: which elements may be one, bool ``(batch, elements)``, or for each element ``(batch, elements,
            elements)``; padding must not.
    """
    lines = guides(box)
    distance = (lines[:, :, None] - lines[:, None]).abs().amin(-1)
    itself = torch.eye(box.shape[1], dtype=torch.bool, device=box.device)
    allowed = (partners if partners.ndim == 3 else partners[:, None]) & ~itself
    nearest = distance.masked_fill(~allowed, LARGE).amin(-1)
    return nearest.masked_fill(nearest >= LARGE, 0)


def intersections(box: Tensor) -> Tensor:
    """The area that two elements share, ``(batch, elements, elements)``; on the diagonal an element's own."""
    ltrb = edges(box)
    low = torch.maximum(ltrb[:, :, None, :2], ltrb[:, None, :, :2])
    high = torch.minimum(ltrb[:, :, None, 2:], ltrb[:, None, :, 2:])
    return (high - low).clamp_min(0).prod(-1)
