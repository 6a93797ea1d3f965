"""Numbers in which layouts can be compared, whatever the order of their elements."""

from collections.abc import Mapping

import torch
from torch import Tensor

from graft_lightning.domains.layouts.layout import edges
from graft_lightning.types import MASK

GRID = 16
"""Cells along each side of the page."""


def coverage(samples: Mapping[str, Tensor], labels: int, grid: int = GRID) -> Tensor:
    """What share of every cell of the page the elements of each label cover, float64 ``(batch, labels * grid * grid)``.

    Where elements of a label overlap, their shares add up. It is continuous in the boxes; a box that is not finite
    makes all numbers of its layout NaN.

    Args:
        samples: layouts.
        labels: of the vocabulary.
        grid: cells along each side of the page.
    """
    mask = samples[MASK].bool()
    box = samples["box"].detach().double()
    broken = (~box.isfinite().all(-1) & mask).any(-1)
    ltrb = edges(box.masked_fill(~mask[..., None], 0.0).nan_to_num(0.0, 0.0, 0.0)) * grid
    start = torch.arange(grid, device=box.device, dtype=box.dtype)
    low, high = ltrb[..., :2, None], ltrb[..., 2:, None]
    share = (torch.minimum(high, start + 1) - torch.maximum(low, start)).clamp(min=0)
    one_hot = torch.nn.functional.one_hot(samples["label"].clamp(0, labels - 1), labels).double() * mask[..., None]
    cells = torch.einsum("bel,bey,bex->blyx", one_hot, share[..., 1, :], share[..., 0, :])
    return cells.flatten(1).masked_fill(broken[:, None], torch.nan)
