"""Distances of generated digits from real ones, in the features of the shipped classifier."""

from typing import Any, Literal

from torch import nn
from torchmetrics import Metric

from graft_lightning.domains.base import distances
from graft_lightning.domains.digits.flow import DigitFeatures, RealDigits


class _OfDigits(Metric):
    """A metric against real digits.

    Args:
        part: which real digits.
        arguments: of the metric.
    """

    def __init__(self, part: Literal["held_out", "train"] = "held_out", **arguments: Any) -> None:
        super().__init__(real=RealDigits(part), features=DigitFeatures(), **arguments)


class FrechetDistance(_OfDigits, distances.FrechetDistance):
    """The Frechet distance from real digits."""


class KernelDistance(_OfDigits, distances.KernelDistance):
    """The kernel distance from real digits."""


class Precision(_OfDigits, distances.Precision):
    """Share of the samples within the real digits' manifold."""


class Recall(_OfDigits, distances.Recall):
    """Share of the real digits within the samples' manifold."""


class CloserToTraining(distances.CloserToTraining):
    """Share of the samples that lie closer to the training digits than held-out digits do; 1/2 is no memorising.

    Distances are those of the pixels.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(RealDigits("train"), RealDigits("held_out"), nn.Flatten(), **arguments)
