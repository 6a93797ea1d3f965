"""Distances of generated pictures from real ones, in the features of any network."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from graft_lightning.domains.base import Examples
from graft_lightning.domains.base.manifold import covered

BATCH = 64
"""Real pictures that are read and looked at together."""


class _Distance(Metric):
    """A metric of torchmetrics against real pictures, whose features are computed once.

    Args:
        real: real pictures, in [-1, 1].
        features: pictures in [0, 1] -> ``(batch, num_features)``.
        count: how many real pictures; all by default.
        arguments: of torchmetrics.
    """

    full_state_update = False
    higher_is_better = False

    def __init__(self, real: Examples, features: nn.Module, count: int | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.real, self.features, self.count = real, features, count
        self.inner: Metric | None = None

    @abstractmethod
    def _make(self) -> Metric:
        """The metric of torchmetrics, empty."""

    def _opened(self) -> Metric:
        """The metric, filled with this process's share of the real pictures."""
        if self.inner is None:
            self.inner = self._make().to(self.device)
            for pictures in _shares(self.real, self.count):
                self.inner.update(pictures.to(self.device), real=True)
        return self.inner

    def update(self, samples: Tensor, conditions: Any = None) -> None:
        """Adds samples ``(batch, 3, height, width)`` in [0, 1]."""
        self._opened().update(samples, real=False)

    def reset(self) -> None:
        """Forgets the samples; the real pictures stay."""
        super().reset()
        if self.inner is not None:
            self.inner.reset()


class FrechetDistance(_Distance):
    """The Frechet distance of two Gaussians fitted to the features (arXiv 1706.08500); FID where they are Inception's.

    It is biased upwards by finite samples: name their number, and compare equal ones.
    """

    def _make(self) -> Metric:
        from torchmetrics.image.fid import FrechetInceptionDistance

        return FrechetInceptionDistance(self.features, reset_real_features=False)

    def compute(self) -> Tensor:
        """The squared distance, a scalar."""
        return self._opened().compute()


class KernelDistance(_Distance):
    """The squared maximum mean discrepancy of the features (arXiv 1801.01401), unbiased; KID with Inception's.

    Args:
        real: real pictures, in [-1, 1].
        features: pictures in [0, 1] -> ``(batch, num_features)``.
        count: how many real pictures; all by default.
        subsets: it is the mean over so many random pairs of subsets, chosen by a fixed seed.
        subset_size: of each.
        arguments: of torchmetrics.
    """

    def __init__(
        self,
        real: Examples,
        features: nn.Module,
        count: int | None = None,
        subsets: int = 100,
        subset_size: int = 1000,
        **arguments: Any,
    ) -> None:
        super().__init__(real, features, count, **arguments)
        self.subsets, self.subset_size = subsets, subset_size

    def _make(self) -> Metric:
        from torchmetrics.image.kid import KernelInceptionDistance

        return KernelInceptionDistance(
            self.features, self.subsets, subset_size=self.subset_size, reset_real_features=False
        )

    def compute(self) -> Tensor:
        """The distance, a scalar; about 0, and sometimes below, for equal laws."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self._opened().compute()[0]


class Precision(Metric):
    """Share of the samples within the real pictures' manifold (arXiv 1904.06991): are samples realistic?

    Args:
        real: real pictures, in [-1, 1].
        features: pictures in [0, 1] -> ``(batch, num_features)``.
        count: how many real pictures; all by default.
        neighbours: the manifold is the union of balls that reach to so many nearest neighbours.
        arguments: of torchmetrics.
    """

    full_state_update = False
    higher_is_better = True
    found: list[Tensor]

    def __init__(
        self, real: Examples, features: nn.Module, count: int | None = None, neighbours: int = 3, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.real, self.features, self.count, self.neighbours = real, features, count, neighbours
        self._known: Tensor | None = None
        self.add_state("found", default=[], dist_reduce_fx="cat")

    def update(self, samples: Tensor, conditions: Any = None) -> None:
        """Adds samples ``(batch, 3, height, width)`` in [0, 1]."""
        self.found.append(self.features(samples))

    def _of_real(self) -> Tensor:
        """Features of the real pictures, all of them on every process."""
        if self._known is None:
            shares = _shares(self.real, self.count, alone=True)
            self._known = torch.cat([self.features(pictures.to(self.device)) for pictures in shares])
        return self._known

    def compute(self) -> Tensor:
        """The share, a scalar."""
        return covered(dim_zero_cat(self.found), self._of_real(), self.neighbours)


class Recall(Precision):
    """Share of the real pictures within the samples' manifold (arXiv 1904.06991): is everything made?

    It grows with the number of samples: compare equal numbers.
    """

    def compute(self) -> Tensor:
        """The share, a scalar."""
        return covered(self._of_real(), dim_zero_cat(self.found), self.neighbours)


class CloserToTraining(Metric):
    """Share of the samples whose nearest real picture is a training picture, not one of as many held-out ones.

    1/2 where the model has learned the law of the pictures, 1 where it repeats its training set.

    Args:
        train: training pictures, in [-1, 1].
        held_out: pictures that no model has seen.
        features: the space of the neighbours.
        count: of both; all held-out pictures by default.
        arguments: of torchmetrics.
    """

    full_state_update = False
    higher_is_better = False
    closer: Tensor
    total: Tensor

    def __init__(
        self, train: Examples, held_out: Examples, features: nn.Module, count: int | None = None, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.train_part, self.held_out, self.features, self.count = train, held_out, features, count
        self._known: list[Tensor] = []
        for name in ("closer", "total"):
            self.add_state(name, default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, samples: Tensor, conditions: Any = None) -> None:
        """Adds samples ``(batch, 3, height, width)`` in [0, 1]."""
        if not self._known:
            count = len(self.held_out) if self.count is None else self.count  # type: ignore[arg-type]
            for part in (self.train_part, self.held_out):
                shares = _shares(part, count, alone=True)
                self._known.append(torch.cat([self.features(pictures.to(self.device)) for pictures in shares]))
        ours = self.features(samples)
        nearest = [torch.cdist(ours, known).amin(1) for known in self._known]
        self.closer += (nearest[0] < nearest[1]).double().sum()
        self.total += len(ours)

    def compute(self) -> Tensor:
        """The share, a scalar."""
        return self.closer / self.total


def _shares(real: Examples, count: int | None, alone: bool = False) -> Any:
    """This process's real pictures, batch by batch, in [0, 1]; all of them with ``alone``."""
    count = len(real) if count is None else count  # type: ignore[arg-type]
    parallel = torch.distributed.is_available() and torch.distributed.is_initialized() and not alone
    rank, world = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if parallel else (0, 1)
    mine = range(count)[rank::world]
    for start in range(0, len(mine), BATCH):
        x, _ = real.batch(mine[start : start + BATCH], 0)
        assert isinstance(x, Tensor)
        yield (x + 1) / 2
