"""Distances of generated digits from real ones, in the features of the shipped classifier."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from graft_lightning.domains.base.manifold import covered
from graft_lightning.domains.digits.flow import DigitFeatures, real_digits


class _OfFeatures(Metric):
    """A metric of all features of the samples against those of real digits.

    Args:
        part: which real digits, "held_out" or "train".
        arguments: of torchmetrics.
    """

    full_state_update = False
    features: list[Tensor]

    def __init__(self, part: str = "held_out", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.part = part
        self.add_state("features", default=[], dist_reduce_fx="cat")

    @cached_property
    def real(self) -> Tensor:
        """Features of the real digits ``(n, 32)``, float64."""
        return DigitFeatures()((real_digits(self.part) + 1) / 2).double()

    def update(self, samples: Tensor, conditions: Any = None) -> None:
        """Adds samples ``(batch, 1, 8, 8)`` in [0, 1]."""
        self.features.append(DigitFeatures()(samples).double())

    @property
    def found(self) -> Tensor:
        """Features of all samples ``(n, 32)``."""
        return dim_zero_cat(self.features)


class FrechetDistance(_OfFeatures):
    """The Frechet distance of two Gaussians fitted to the features (FID, arXiv 1706.08500); 0 for equal laws.

    It is biased upwards by finite samples: compare with real against real at the same counts.
    """

    higher_is_better = False

    def compute(self) -> Tensor:
        """The squared distance, a scalar."""
        found, real = self.found, self.real.to(self.device)
        cov, other = torch.cov(found.T), torch.cov(real.T)
        # the trace of (cov other)^(1/2), by the symmetric product that has the same eigenvalues
        value, vectors = torch.linalg.eigh(other)
        root = vectors * value.clamp_min(0).sqrt() @ vectors.T
        cross = torch.linalg.eigvalsh(root @ cov @ root).clamp_min(0).sqrt().sum()
        return (found.mean(0) - real.mean(0)).square().sum() + cov.trace() + other.trace() - 2 * cross


class KernelDistance(_OfFeatures):
    """The squared maximum mean discrepancy with the kernel (x y / d + 1)^3 (KID, arXiv 1801.01401), unbiased.

    Over all pairs at once, in place of the mean over random subsets: it has less variance and needs no randomness.
    """

    higher_is_better = False

    def compute(self) -> Tensor:
        """The distance, a scalar; about 0, and sometimes below, for equal laws."""
        found, real = self.found, self.real.to(self.device)
        return _within(found) + _within(real) - 2 * _kernel(found, real).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _within(x: Tensor) -> Tensor:
    """Mean kernel over pairs of different rows."""
    kernel = _kernel(x, x)
    return (kernel.sum() - kernel.diagonal().sum()) / (len(x) * (len(x) - 1))


class Precision(_OfFeatures):
    """Share of the samples within the real digits' manifold (arXiv 1904.06991): are samples realistic?

    Args:
        part: which real digits, "held_out" or "train".
        neighbours: the manifold is the union of balls that reach to so many nearest neighbours.
        arguments: of torchmetrics.
    """

    higher_is_better = True

    def __init__(self, part: str = "held_out", neighbours: int = 3, **arguments: Any) -> None:
        super().__init__(part, **arguments)
        self.neighbours = neighbours

    def compute(self) -> Tensor:
        """The share, a scalar."""
        return covered(self.found, self.real.to(self.device), self.neighbours)


class Recall(Precision):
    """Share of the real digits within the samples' manifold (arXiv 1904.06991): is every kind of digit made?

    It grows with the number of samples: compare equal numbers.
    """

    def compute(self) -> Tensor:
        """The share, a scalar."""
        return covered(self.real.to(self.device), self.found, self.neighbours)


class CloserToTraining(Metric):
    """Share of the samples whose nearest real digit is a training digit, not one of as many held-out ones.

    1/2 where the model has learned the law of digits, 1 where it repeats its training digits. Distances of pixels.
    """

    full_state_update = False
    higher_is_better = False
    closer: Tensor
    total: Tensor

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.add_state("closer", default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, samples: Tensor, conditions: Any = None) -> None:
        """Adds samples ``(batch, 1, 8, 8)`` in [0, 1]."""
        held_out = real_digits("held_out")
        train = real_digits("train")[: len(held_out)]
        flat = (samples.double() * 2 - 1).flatten(1)
        nearest = [torch.cdist(flat, part.to(flat).flatten(1)).amin(1) for part in (train, held_out)]
        self.closer += (nearest[0] < nearest[1]).double().sum()
        self.total += len(flat)

    def compute(self) -> Tensor:
        """The share, a scalar."""
        return self.closer / self.total
