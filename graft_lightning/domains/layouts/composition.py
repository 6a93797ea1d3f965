"""Rewards that designers would recognise: margins, and a reading order that nobody has to guess."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graft_lightning.domains.layouts.layout import edges
from graft_lightning.domains.layouts.metrics import geometry
from graft_lightning.domains.layouts.rewards import LayoutReward, Layouts, positive, share_of
from graft_lightning.types import SettingsError

ROUNDING = 1e-6
"""Shares of the page's side by which rounded numbers may miss a margin."""


class Margins(LayoutReward):
    """The share of elements that keep clear of the page's edges, times exp(-|left - right| / scale).

    Left and right are the margins of the page: the distances from its sides to the outermost elements.

    Args:
        least: margin that each element keeps on all four sides, in shares of the page's sides.
        scale: difference of the page's margins at which the reward has fallen to 1/e.

    Raises:
        SettingsError: if an argument is out of its range.
    """

    def __init__(self, least: float = 0.03, scale: float = 0.05) -> None:
        if not 0 <= least < 0.5:
            raise SettingsError(f"least={least}; it is a share of the page's side, from 0 to below .5")
        self.least, self.scale = least, positive("scale", scale)

    def scores(self, layouts: Layouts, conditions: Sequence[str]) -> Tensor:
        box, mask, _ = geometry.judged(layouts)
        ltrb = edges(box)
        clear = ((ltrb >= self.least - ROUNDING) & (ltrb <= 1 - self.least + ROUNDING)).all(-1)
        left = torch.where(mask, ltrb[..., 0], 1.0).amin(-1)
        right = torch.where(mask, 1 - ltrb[..., 2], 1.0).amin(-1)
        return share_of(clear, mask) * torch.exp(-(left - right).abs() / self.scale)


class ReadingOrder(LayoutReward):
    """The share of elements whose place in the reading order is certain.

    A page is cut along straight gutters, first across, then down, then across again, until nothing can be cut
    (recursive XY cut). An element that ends in a piece of its own can be read in only one order; those that overlap or
    interlock end in one piece, and only the first of them counts.

    Args:
        tolerance: overlap of two elements across a gutter that is forgiven, in shares of the page's side.

    Raises:
        SettingsError: if the tolerance is negative.

    References:
        Nagy and Seth, Hierarchical representation of optically scanned documents, ICPR 1984.
    """

    def __init__(self, tolerance: float = 0.005) -> None:
        if not tolerance >= 0:
            raise SettingsError(f"tolerance={tolerance}; it must not be negative")
        self.tolerance = tolerance

    def scores(self, layouts: Layouts, conditions: Sequence[str]) -> Tensor:
        box, mask, _ = geometry.judged(layouts)
        pages = [ltrb[real].numpy() for ltrb, real in zip(edges(box).cpu(), mask.cpu(), strict=True)]
        shares = [len(pieces(page, self.tolerance)) / max(len(page), 1) for page in pages]
        return torch.tensor(shares, dtype=box.dtype, device=box.device)


def pieces(ltrb: np.ndarray, tolerance: float = 0.0) -> list[list[int]]:
    """The pieces into which gutters cut a page, in reading order: lists of elements, most of them of one.

    Args:
        ltrb: left, top, right, bottom of its elements, ``(elements, 4)``.
        tolerance: by which elements on both sides of a gutter may overlap.
    """
    found: list[list[int]] = []

    def cut(elements: np.ndarray) -> None:
        for low, high in ((1, 3), (0, 2)):  # across first: a title stands above all columns
            parts = _parted(elements, ltrb[elements, low], ltrb[elements, high], tolerance)
            if len(parts) > 1:
                for part in parts:
                    cut(part)
                return
        found.append(elements.tolist())

    if len(ltrb):
        cut(np.arange(len(ltrb)))
    return found


def _parted(elements: np.ndarray, low: np.ndarray, high: np.ndarray, tolerance: float) -> list[np.ndarray]:
    """Elements in groups along one axis, in its order, between which a gutter runs."""
    order = np.argsort(low, kind="stable")
    reached = np.maximum.accumulate(high[order])
    starts = np.flatnonzero(low[order][1:] >= reached[:-1] - tolerance) + 1
    return np.split(elements[order], starts)
