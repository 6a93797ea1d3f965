"""Distances of generated pictures from real ones: those of `domains.base`, under the names that files of images use."""

from typing import Any

from torch import nn

from graft_lightning.domains.base import Examples, distances
from graft_lightning.domains.base.distances import CloserToTraining, FrechetDistance, Precision, Recall

__all__ = ["CloserToTraining", "FrechetDistance", "KernelDistance", "Precision", "Recall"]


class KernelDistance(distances.KernelDistance):
    """The kernel distance of all pairs.

    Args:
        real: real pictures, in [-1, 1].
        features: pictures in [0, 1] -> ``(batch, num_features)``.
        count: how many real pictures; all by default.
        subset_size: has no effect, for there are no subsets; files may still name it.
        arguments: of torchmetrics.
    """

    def __init__(
        self,
        real: Examples,
        features: nn.Module,
        count: int | None = None,
        subset_size: int | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(real, features, count, **arguments)
