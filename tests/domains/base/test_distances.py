"""Distances of samples in several processes, of few samples, and of more real ones than there are."""

import math

import pytest
import torch
from torch import nn

from graft_lightning.domains.base import Diversity, Examples
from graft_lightning.domains.base.distances import (
    BATCH,
    CloserToTraining,
    FrechetDistance,
    KernelDistance,
    Precision,
    Recall,
    features_of,
)
from graft_lightning.domains.base.manifold import covered
from graft_lightning.types import SettingsError
from tests.domains.together import together

SEES = [FrechetDistance, KernelDistance, Precision, Recall]


class Pixels(nn.Module):
    """The first four pixels; like convolutions of some libraries it takes no empty batch."""

    num_features = 4

    def forward(self, images):
        assert len(images)
        return images[:, 0, 0, :4] * 2 - 1


class Cloud(Examples):
    def __init__(self, count, seed=0):
        self.x = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))

    def __len__(self):
        return len(self.x)

    def batch(self, positions, seed):
        return self.x[list(positions)], [""] * len(positions)


def samples(count):
    return (Cloud(count, seed=1).x + 1) / 2


def metrics(real=150):
    return [
        *(kind(Cloud(real), Pixels()) for kind in SEES),
        CloserToTraining(Cloud(150, seed=3), Cloud(120, seed=4), nn.Flatten()),
        Diversity(),
    ]


def figures(made, batches):
    for batch in batches:
        for metric in made:
            metric.update(batch, ["one"] * len(batch))
    return [float(metric.compute()) for metric in made]


X = samples(90)
NOTHING = X[:0]


@pytest.mark.parametrize(
    "batches",
    [[[X], [NOTHING]], [[X[:20], X[20:40], X[40:60]], [X[60:], NOTHING, NOTHING]]],
    ids=["one has nothing", "three batches and one"],
)
@pytest.mark.parametrize("real", [150, 1], ids=["real samples for both", "one real sample"])
def test_two_processes_give_the_figures_of_one(tmp_path, batches, real):
    expected = figures(metrics(real), [X])

    def work(rank):
        made = metrics(real)
        first = figures(made, batches[rank])
        for metric in made:
            metric.reset()
        return first, figures(made, batches[rank][::-1])

    for found in together(work, tmp_path):
        for value in found:
            assert value == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert math.isfinite(sum(expected)) == (real > 1)


def test_real_samples_are_divided_among_the_processes(tmp_path):
    class Counted(Pixels):
        seen = 0

        def forward(self, images):
            Counted.seen += len(images)
            return super().forward(images)

    def work(rank):
        metric = KernelDistance(Cloud(151), Counted(), count=121)
        metric.update(X[:10])
        metric.compute()
        return Counted.seen - 10

    assert together(work, tmp_path) == [61, 60]


def test_the_kernel_distance_is_that_of_torchmetrics():
    """One subset that is everything; which they draw in a random order."""
    from torchmetrics.image.kid import KernelInceptionDistance

    real = Cloud(90)
    theirs = KernelInceptionDistance(Pixels(), subsets=1, subset_size=90).double()
    theirs.update((real.x + 1) / 2, real=True)
    theirs.update(X, real=False)
    (found,) = figures([KernelDistance(real, Pixels())], X.split(40))
    assert found == pytest.approx(float(theirs.compute()[0]), rel=1e-5)


def test_the_frechet_distance_is_that_of_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    real = Cloud(3 * BATCH)
    theirs = FrechetInceptionDistance(Pixels())
    theirs.update((real.x + 1) / 2, real=True)
    theirs.update(X, real=False)
    (found,) = figures([FrechetDistance(real, Pixels())], X.split(40))
    assert found == pytest.approx(float(theirs.compute()), rel=1e-5)


def test_blocks_are_the_whole(monkeypatch):
    whole = figures(metrics(), [X])
    for module in ("distances", "manifold"):
        monkeypatch.setattr(f"graft_lightning.domains.base.{module}.BLOCK", 7)
    assert figures(metrics(), [X]) == pytest.approx(whole, rel=1e-9)


def test_features_of_nothing_have_their_width():
    found = features_of(Pixels(), NOTHING)
    assert found.shape == (0, 4)
    assert found.dtype == torch.float32


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_of_too_few_samples_there_is_no_figure_and_no_error(count):
    """Three neighbours need four samples, a covariance or a pair of different samples two; others need one."""
    enough = {FrechetDistance: 2, KernelDistance: 2, Precision: 1, Recall: 4, CloserToTraining: 1, Diversity: 2}
    made = metrics()
    values = figures(made, [X[:count]])
    for metric, value in zip(made, values, strict=True):
        assert math.isfinite(value) == (count >= enough[type(metric)]), type(metric)


def test_a_manifold_needs_more_points_than_neighbours():
    assert math.isnan(covered(torch.zeros(5, 2), torch.randn(3, 2), 3))
    assert float(covered(torch.zeros(5, 2), torch.randn(4, 2), 3)) in (0, 1)
    assert math.isnan(covered(torch.zeros(0, 2), torch.randn(4, 2), 3))


def test_samples_that_are_not_finite_have_no_distance():
    broken = X.clone()
    broken[3] = math.nan
    found = figures([kind(Cloud(50), Pixels()) for kind in (FrechetDistance, KernelDistance)], [broken])
    assert all(map(math.isnan, found))


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        *((kind(Cloud(20), Pixels(), count=21), "count=21, but `real` has only 20 .* to 20") for kind in SEES),
        (CloserToTraining(Cloud(20), Cloud(30), Pixels()), "count=30, but `train` has only 20"),
        (CloserToTraining(Cloud(30), Cloud(20), Pixels(), count=25), "count=25, but `held_out` has only 20"),
    ],
    ids=[*(kind.__name__ for kind in SEES), "training", "held out"],
)
def test_no_real_sample_counts_twice(metric, said):
    with pytest.raises(SettingsError, match=said):
        metric.update(X)


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="count=0"):
        FrechetDistance(Cloud(9), Pixels(), count=0)
    with pytest.raises(ValueError, match="count=0"):
        CloserToTraining(Cloud(9), Cloud(9), Pixels(), count=0)
    with pytest.raises(ValueError, match="neighbours=0"):
        Recall(Cloud(9), Pixels(), neighbours=0)
    with pytest.raises(SettingsError, match="features: Flatten does not say"):
        FrechetDistance(Cloud(9), nn.Flatten())
