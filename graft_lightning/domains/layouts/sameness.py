"""When two layouts are the same, and how far they are apart, whatever the order of their elements."""

import hashlib

import torch
from torch import Tensor

from graft_lightning.domains.layouts.layout import edges

BINS = 64
"""Of coordinates in de-duplication keys."""

CELLS = 12
"""Rows and columns of the raster."""


def layout_keys(label: Tensor, box: Tensor, mask: Tensor) -> Tensor:
    """Keys of layouts, int64 ``(batch,)``: the same for the same labels with boxes in the same of `BINS` bins.

    -1, equal to nothing, where a coordinate is not finite or there is no element.

    Args:
        label: int64 ``(batch, elements)``.
        box: centre and size as shares of the page's sides, ``(batch, elements, 4)``.
        mask: bool ``(batch, elements)``.
    """
    finite = (box.isfinite().all(-1) | ~mask).all(-1) & mask.any(-1)
    bins = (box.nan_to_num(0, 0, 0).clamp(0, 1) * BINS).round().long()
    rows = torch.cat([label[..., None], bins], -1).cpu()
    keys = [
        _key(sorted(map(tuple, row[real].tolist()))) if good else -1
        for row, real, good in zip(rows, mask.bool().cpu(), finite.tolist(), strict=True)
    ]
    return torch.tensor(keys, dtype=torch.int64)


def _key(elements: list[tuple[int, ...]]) -> int:
    return int.from_bytes(hashlib.blake2b(repr(elements).encode(), digest_size=8).digest(), "big") >> 1


def raster(label: Tensor, box: Tensor, mask: Tensor, labels: int, cells: int = CELLS) -> Tensor:
    """How much of each cell of a page the elements of each label cover, float64 ``(batch, labels cells^2)``.

    It does not depend on the order of elements and moves continuously with their boxes; two elements on one place count
    twice.

    Args:
        label: int64 ``(batch, elements)``.
        box: centre and size as shares of the page's sides, ``(batch, elements, 4)``.
        mask: bool ``(batch, elements)``.
        labels: how many there are.
        cells: rows and columns.
    """
    left, top, right, bottom = edges(box.double()).unbind(-1)
    across, down = _shares(left, right, cells), _shares(top, bottom, cells)
    kind = torch.nn.functional.one_hot(label, labels).double() * mask[..., None]
    return torch.einsum("bel,bey,bex->blyx", kind, down, across).flatten(1)


def _shares(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """The share of each cell of a side that an interval ``(batch, elements)`` covers, ``(batch, elements, cells)``."""
    start = torch.arange(cells, dtype=low.dtype, device=low.device) / cells
    inside = torch.minimum(high[..., None], start + 1 / cells) - torch.maximum(low[..., None], start)
    return inside.clamp_min(0) * cells
