"""Distances of samples from real ones, in the features of any network.

Every metric takes batches without a row too: what a process adds that has nothing left to draw. Its states then have
the shapes and types of those of the others, without which they could not be gathered.

Frechet and kernel distance are kept by hand because torchmetrics' take no process without a sample, and gather the
features of unequal numbers of batches one by one, which hangs; tests hold both against torchmetrics' values.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sized
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat, rank_zero_warn
from torchmetrics.utilities.distributed import gather_all_tensors

from graft_lightning.domains.base.drift import polynomial_kernel
from graft_lightning.domains.base.examples import Examples
from graft_lightning.domains.base.manifold import covered
from graft_lightning.types import SettingsError

BATCH = 64
"""Real samples that are read and looked at together."""

BLOCK = 1024
"""Rows whose kernel with all others is in memory at a time."""


class AgainstReal(Metric):
    """A metric of the features of samples against those of real ones, which are computed once.

    Args:
        real: real samples, in [-1, 1].
        features: samples in [0, 1] -> ``(batch, num_features)``.
        count: how many real samples; all by default.
        arguments: of torchmetrics.
    """

    full_state_update = False
    higher_is_better: bool | None = False

    def __init__(self, real: Examples, features: nn.Module, count: int | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        if count is not None and count < 1:
            raise ValueError(f"count={count}; at least 1 real sample is needed")
        self.real, self.features, self.count = real, features, count
        self._share: Tensor | None = None
        self._known: Tensor | None = None

    @abstractmethod
    def _keep(self, features: Iterator[Tensor]) -> Tensor:
        """What is kept of the real samples of this process, from their features, batch by batch."""

    @abstractmethod
    def _join(self, shares: list[Tensor]) -> Tensor:
        """What is kept of the real samples of all processes."""

    @abstractmethod
    def _add(self, features: Tensor) -> None:
        """Adds features of samples."""

    def update(self, samples: Tensor, conditions: Any = None) -> None:
        """Adds samples ``(batch, *shape)`` in [0, 1].

        Raises:
            SettingsError: if there are fewer real samples than are asked for.
        """
        self._of_this_process()  # with the first samples, so that its errors do not come after hours of drawing
        self._add(features_of(self.features, samples))

    def _of_this_process(self) -> Tensor:
        if self._share is None:
            batches = real_samples("real", self.real, self.count, *_place())
            self._share = self._keep(features_of(self.features, batch.to(self.device)) for batch in batches)
        return self._share

    def _of_real(self) -> Tensor:
        """What is kept of all real samples. Collective when it is first called, in `compute`."""
        if self._known is None:
            share = self._of_this_process().to(self.device)
            self._known = self._join(gather_all_tensors(share) if _place()[1] > 1 else [share])
        return self._known.to(self.device)


def _place() -> tuple[int, int]:
    """Rank of this process and number of processes."""
    parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if parallel else (0, 1)


class FrechetDistance(AgainstReal):
    """The Frechet distance of two Gaussians fitted to the features (arXiv 1706.08500); FID where they are Inception's.

    It is biased upwards by finite samples: name their number, and compare equal ones. NaN with fewer than two.

    Args:
        real: real samples, in [-1, 1].
        features: samples in [0, 1] -> ``(batch, num_features)``, a number that it names.
        count: how many real samples; all by default.
        arguments: of torchmetrics.
    """

    moments: Tensor
    """``(1 + num_features, 1 + num_features)``: sums of the products of a 1 and the features."""

    def __init__(self, real: Examples, features: nn.Module, count: int | None = None, **arguments: Any) -> None:
        super().__init__(real, features, count, **arguments)
        width = getattr(features, "num_features", None)
        if not isinstance(width, int):
            raise SettingsError(
                f"features: {type(features).__qualname__} does not say how many numbers it gives for a sample; let it "
                "have an attribute num_features"
            )
        self.add_state("moments", torch.zeros(1 + width, 1 + width, dtype=torch.float64), dist_reduce_fx="sum")

    def _keep(self, features: Iterator[Tensor]) -> Tensor:
        return torch.stack(list(map(_moments, features))).sum(0)

    def _join(self, shares: list[Tensor]) -> Tensor:
        return torch.stack(shares).sum(0)

    def _add(self, features: Tensor) -> None:
        self.moments += _moments(features)

    def compute(self) -> Tensor:
        """The squared distance, a scalar."""
        (mean, cov), (other_mean, other) = _gaussian(self.moments), _gaussian(self._of_real())
        if not (cov.isfinite().all() and other.isfinite().all()):
            return torch.tensor(torch.nan, dtype=torch.float64, device=self.device)
        # the trace of (cov other)^(1/2), by the symmetric product that has the same eigenvalues
        value, vectors = torch.linalg.eigh(other)
        root = vectors * value.clamp_min(0).sqrt() @ vectors.T
        cross = torch.linalg.eigvalsh(root @ cov @ root).clamp_min(0).sqrt().sum()
        return (mean - other_mean).square().sum() + cov.trace() + other.trace() - 2 * cross


def _moments(features: Tensor) -> Tensor:
    rows = torch.cat([features.new_ones(len(features), 1), features], 1).double()
    return rows.T @ rows


def _gaussian(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance; of fewer than two rows the latter is not finite."""
    total, mean = moments[0, 0], moments[0, 1:] / moments[0, 0]
    centred = moments[1:, 1:] - total * mean.outer(mean)
    return mean, centred / (total - 1) if total > 1 else torch.full_like(centred, torch.nan)


class _OfRows(AgainstReal):
    """A metric that looks at the features of all samples at once."""

    found: list[Tensor]

    def __init__(self, real: Examples, features: nn.Module, count: int | None = None, **arguments: Any) -> None:
        super().__init__(real, features, count, **arguments)
        self.add_state("found", default=[], dist_reduce_fx="cat")

    def _keep(self, features: Iterator[Tensor]) -> Tensor:
        return torch.cat(list(features))

    def _join(self, shares: list[Tensor]) -> Tensor:
        return torch.cat(shares)

    def _add(self, features: Tensor) -> None:
        self.found.append(features)

    def _of_samples(self) -> Tensor:
        return dim_zero_cat(self.found)


class KernelDistance(_OfRows):
    """The squared maximum mean discrepancy with the kernel (x y / d + 1)^3 (KID, arXiv 1801.01401), unbiased.

    Over all pairs at once, in place of the mean over random subsets: it has less variance and needs no randomness. NaN
    with fewer than two samples.
    """

    def compute(self) -> Tensor:
        """The distance, a scalar; about 0, and sometimes below, for equal distributions."""
        found, real = self._of_samples().double(), self._of_real().double()
        if min(len(found), len(real)) < 2:
            return torch.tensor(torch.nan, dtype=torch.float64, device=self.device)
        between = _kernel_sum(found, real) / (len(found) * len(real))
        return _within(found) + _within(real) - 2 * between


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    """The kernel's sum over all pairs of a row of ``x`` and one of ``y``."""
    blocks = [polynomial_kernel(block, y).sum() for block in x.split(BLOCK)]
    return torch.stack(blocks).sum()


def _within(x: Tensor) -> Tensor:
    """Mean kernel over pairs of different rows."""
    own = (x.square().mean(1) + 1) ** 3
    return (_kernel_sum(x, x) - own.sum()) / (len(x) * (len(x) - 1))


class Precision(_OfRows):
    """Share of the samples within the real ones' manifold (arXiv 1904.06991): are samples realistic?

    NaN where there are no more real samples than ``neighbours``.

    Args:
        real: real samples, in [-1, 1].
        features: samples in [0, 1] -> ``(batch, num_features)``.
        count: how many real samples; all by default.
        neighbours: the manifold is the union of balls that reach to so many nearest neighbours.
        arguments: of torchmetrics.
    """

    higher_is_better = True

    def __init__(
        self, real: Examples, features: nn.Module, count: int | None = None, neighbours: int = 3, **arguments: Any
    ) -> None:
        super().__init__(real, features, count, **arguments)
        if neighbours < 1:
            raise ValueError(f"neighbours={neighbours}; a ball reaches to its first neighbour at least")
        self.neighbours = neighbours

    def compute(self) -> Tensor:
        """The share, a scalar."""
        return covered(self._of_samples(), self._of_real(), self.neighbours)


class Recall(Precision):
    """Share of the real samples within the manifold of the drawn ones (arXiv 1904.06991): is everything made?

    It grows with the number of samples: compare equal numbers. NaN where there are no more than ``neighbours``.
    """

    def compute(self) -> Tensor:
        """The share, a scalar."""
        return covered(self._of_real(), self._of_samples(), self.neighbours)


class CloserToTraining(Metric):
    """Share of the samples that lie closer to the training set than held-out real ones do (arXiv 2004.05675).

    P(d(sample) < d(held-out)) + P(d(sample) = d(held-out)) / 2 over all pairs of a sample and a held-out one, d the
    distance to the nearest of *all* training samples: the Mann-Whitney statistic of three samples that C_T is made of.
    A model that has learned the distribution draws samples that could change places with held-out ones, whatever the
    training set is: either distance is as likely to be the smaller one, and the share is 1/2 for every size of the
    three sets, with the variance (n + m + 1) / (12 n m) for n samples and m held-out ones. Copies of training samples
    give 1; below 1/2 the samples are further from the data than real ones.

    Samples whose features are not finite are left out, counted in `not_finite`, and warned of. The features of the
    training set stay in memory, four bytes a number; distances are taken in blocks.

    Args:
        train: all training samples, in [-1, 1].
        held_out: real samples that no model has seen.
        features: the space of the neighbours, samples in [0, 1] -> ``(batch, features)``.
        count: of the held-out samples; all by default.
        arguments: of torchmetrics.
    """

    full_state_update = False
    higher_is_better = False
    closer: Tensor
    total: Tensor
    not_finite: Tensor

    def __init__(
        self, train: Examples, held_out: Examples, features: nn.Module, count: int | None = None, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        if count is not None and count < 1:
            raise ValueError(f"count={count}; at least 1 held-out sample is needed")
        self.train_part, self.held_out, self.features, self.count = train, held_out, features, count
        self._known: tuple[Tensor, Tensor] | None = None
        for name in ("closer", "total", "not_finite"):
            self.add_state(name, default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, samples: Tensor, conditions: Any = None) -> None:
        """Adds samples ``(batch, *shape)`` in [0, 1].

        Raises:
            SettingsError: if there are fewer held-out samples than are asked for, or real ones are not finite.
        """
        train, of_held_out = (known.to(self.device) for known in self._of_both())
        features = features_of(self.features, samples).to(self.device)
        finite = features.isfinite().all(1)
        distance = nearest(features[finite], train)
        below = torch.searchsorted(of_held_out, distance)
        not_above = torch.searchsorted(of_held_out, distance, right=True)
        self.closer += (1 - (below + not_above).double() / (2 * len(of_held_out))).sum()
        self.total += finite.sum()
        self.not_finite += (~finite).sum()

    def _of_both(self) -> tuple[Tensor, Tensor]:
        """Features of the training set, and the distances of the held-out samples to it, increasing."""
        if self._known is None:
            held_out = self._features("held_out", self.held_out, self.count)
            train = self._features("train", self.train_part, None)
            self._known = train, nearest(held_out, train).sort().values
        return self._known

    def _features(self, name: str, part: Examples, count: int | None) -> Tensor:
        batches = real_samples(name, part, count)
        features = torch.cat([features_of(self.features, batch.to(self.device)) for batch in batches])
        finite = features.isfinite().all(1)
        if not finite.all():
            raise SettingsError(
                f"`{name}`: {int((~finite).sum())} of {len(features)} real samples have features that are not finite; "
                "remove these samples, or use other features"
            )
        return features

    def compute(self) -> Tensor:
        """The share, a scalar; NaN of no finite sample."""
        if self.not_finite > 0:
            rank_zero_warn(
                f"{type(self).__name__}: the features of {int(self.not_finite)} samples are not finite; the share is "
                f"that of the other {int(self.total)}"
            )
        return self.closer / self.total


def nearest(points: Tensor, others: Tensor) -> Tensor:
    """Distance of every point to the nearest of ``others``, float64 ``(n,)``; exactly 0 for a copy.

    Args:
        points: ``(n, features)``.
        others: ``(m, features)``, at least one.
    """
    found = []
    for block in points.split(BLOCK):
        rows = block.double()
        least, index = rows.new_full((len(rows),), torch.inf), torch.zeros_like(rows[:, 0], dtype=torch.int64)
        for start in range(0, len(others), BLOCK):
            distance, place = torch.cdist(rows, others[start : start + BLOCK].double()).min(1)
            index = torch.where(distance < least, start + place, index)
            least = torch.minimum(distance, least)
        # cdist expands the square, which rounds a distance of 0 to something else: ties would be lost
        found.append((rows - others[index].double()).norm(dim=1))
    return torch.cat(found) if found else points.new_zeros(0, dtype=torch.float64)


@torch.no_grad()
def features_of(features: nn.Module, samples: Tensor) -> Tensor:
    """Features of samples, float32 ``(batch, features)``; of no sample too, which few networks take."""
    if not len(samples):
        return features_of(features, samples.new_zeros(1, *samples.shape[1:]))[:0]
    return features(samples).flatten(1).float()


def real_samples(name: str, real: Examples, count: int | None, rank: int = 0, world: int = 1) -> Iterator[Tensor]:
    """A process's share of the real samples, batch by batch, in [0, 1]; where it has none, one batch without a row.

    Args:
        name: of the setting that ``real`` is, for the error.
        real: real samples, in [-1, 1].
        count: how many; None takes all.
        rank: of this process.
        world: number of processes.

    Raises:
        SettingsError: if there are fewer; a stream would give some of them again.
    """
    assert isinstance(real, Sized)
    if count is not None and count > len(real):
        raise SettingsError(
            f"count={count}, but `{name}` has only {len(real)} samples, and some would count twice; set count to "
            f"{len(real)} or less"
        )
    mine = range(len(real) if count is None else count)[rank::world]
    for start in range(0, len(mine), BATCH):
        yield _in_unit_range(real, mine[start : start + BATCH])
    if not mine:
        yield _in_unit_range(real, range(1))[:0]


def _in_unit_range(real: Examples, positions: range) -> Tensor:
    x, _ = real.batch(positions, 0)
    assert isinstance(x, Tensor)
    return (x + 1) / 2
