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
    nearest,
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
        (CloserToTraining(Cloud(30), Cloud(20), Pixels(), count=25), "count=25, but `held_out` has only 20"),
    ],
    ids=[*(kind.__name__ for kind in SEES), "held out"],
)
def test_no_real_sample_counts_twice(metric, said):
    with pytest.raises(SettingsError, match=said):
        metric.update(X)


# nearest training samples


def closer(train, held_out, batches, **settings):
    metric = CloserToTraining(train, held_out, Pixels(), **settings)
    for batch in batches:
        metric.update(batch)
    return metric


@pytest.mark.parametrize(("many", "few"), [(2700, 300), (300, 2700), (300, 300)])
def test_memorising_is_seen_at_every_proportion_of_the_sets(many, few):
    """Copies of training samples: 1. Fresh draws: 1/2, with the variance (n + m + 1) / (12 n m)."""
    train, held_out, n = Cloud(many, seed=3), Cloud(few, seed=4), 600
    copies = (train.x[torch.arange(n) % many] + 1) / 2
    assert float(closer(train, held_out, copies.split(250)).compute()) == 1
    fresh = (Cloud(n, seed=5).x + 1) / 2
    spread = math.sqrt((n + few + 1) / (12 * n * few))
    assert float(closer(train, held_out, fresh.split(250)).compute()) == pytest.approx(0.5, abs=4 * spread)
    mixed = torch.cat([copies[: n // 2], fresh[n // 2 :]])
    assert float(closer(train, held_out, [mixed]).compute()) == pytest.approx(0.75, abs=3 * spread)
    far = (Cloud(n, seed=6).x * 20 + 1) / 2
    assert float(closer(train, held_out, [far]).compute()) < 0.1


class Line(Examples):
    """Given first pixels."""

    def __init__(self, *values):
        self.values = torch.tensor(values)

    def __len__(self):
        return len(self.values)

    def batch(self, positions, seed):
        x = torch.zeros(len(positions), 1, 4, 4)
        x[:, 0, 0, 0] = self.values[list(positions)]
        return x, [""] * len(positions)


def on_line(*values):
    return (Line(*values).batch(range(len(values)), 0)[0] + 1) / 2


def test_ties_count_half():
    """Held-out distances 0, .25, .25, 1 from the training sample at 0."""
    train, held_out = Line(0.0), Line(0.0, 0.25, -0.25, 1.0)
    for value, share in ((0.0, 7 / 8), (0.125, 3 / 4), (-0.25, 1 / 2), (0.5, 1 / 4), (1.0, 1 / 8), (2.0, 0.0)):
        assert float(closer(train, held_out, [on_line(value)]).compute()) == share
    assert float(closer(train, held_out, [on_line(0.0, 2.0)]).compute()) == 7 / 16
    # of the held-out samples themselves, whatever ties there are, it is 1/2
    assert float(closer(train, held_out, [on_line(0.0, 0.25, -0.25, 1.0)]).compute()) == 0.5
    assert float(closer(train, held_out, [on_line(0.125)], count=1).compute()) == 0


def test_the_whole_training_set_is_searched():
    train = Line(*[1000.0] * (2 * BATCH), 0.0)
    assert float(closer(train, Line(0.25), [on_line(0.125)]).compute()) == 1


def test_samples_that_are_not_finite_are_counted_apart():
    metric = closer(Line(0.0), Line(0.25), [on_line(0.125, math.nan, math.inf, 0.5)])
    with pytest.warns(UserWarning, match="2 samples are not finite.*other 2"):
        assert float(metric.compute()) == 0.5
    assert (int(metric.total), int(metric.not_finite)) == (2, 2)
    with pytest.warns(UserWarning, match="1 samples are not finite"):
        assert math.isnan(closer(Line(0.0), Line(0.25), [on_line(math.nan)]).compute())


@pytest.mark.parametrize(
    ("train", "held_out", "said"),
    [((0.0, math.nan), (1.0,), "`train`: 1 of 2"), ((0.0,), (1.0, math.inf, 2.0), "`held_out`: 1 of 3")],
)
def test_real_samples_must_be_finite(train, held_out, said):
    with pytest.raises(SettingsError, match=said):
        closer(Line(*train), Line(*held_out), [on_line(0.0)])


def test_a_copy_is_at_distance_0_and_others_are_where_they_are():
    """Far from the origin, where an expanded square would round."""
    others = 1000 + torch.randn(2500, 3, generator=torch.Generator().manual_seed(0))
    points = torch.cat([others[[0, 1500, 2499]], others[:40] + 0.001])
    found = nearest(points, others)
    assert (found[:3] == 0).all()
    by_hand = (points[3:, None].double() - others.double()).norm(dim=2).amin(1)
    torch.testing.assert_close(found[3:], by_hand, rtol=1e-6, atol=0)
    assert nearest(points[:0], others).shape == (0,)


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="count=0"):
        FrechetDistance(Cloud(9), Pixels(), count=0)
    with pytest.raises(ValueError, match="count=0"):
        CloserToTraining(Cloud(9), Cloud(9), Pixels(), count=0)
    with pytest.raises(ValueError, match="neighbours=0"):
        Recall(Cloud(9), Pixels(), neighbours=0)
    with pytest.raises(SettingsError, match="features: Flatten does not say"):
        FrechetDistance(Cloud(9), nn.Flatten())
