import pytest
import torch
from torch import nn

from graft_lightning.domains.base import Examples
from graft_lightning.domains.images import FrechetDistance, Inception, KernelDistance
from graft_lightning.domains.images.distances import CloserToTraining, Precision, Recall
from graft_lightning.types import SettingsError


class Means(nn.Module):
    """Each of the first row's pixels as a feature."""

    num_features = 4

    def forward(self, images):
        return images[:, 0, 0, :4] * 2 - 1


class Cloud(Examples):
    """Images whose features are standard normal, about a place."""

    def __init__(self, count, place=0.0, seed=0):
        self.x = place + torch.randn(count, 1, 1, 4, generator=torch.Generator().manual_seed(seed)).expand(-1, 3, 4, 4)

    def __len__(self):
        return len(self.x)

    def batch(self, positions, seed):
        return self.x[list(positions)], [""] * len(positions)


def samples(count, place=0.0, seed=1):
    return (Cloud(count, place, seed).x + 1) / 2


def fed(metric, x, batches=4):
    for part in x.chunk(batches):
        metric.update(part, [""] * len(part))
    return float(metric.compute())


def test_the_distance_of_two_gaussians():
    """Equal covariances: the squared distance of the means, 4 features at 0.5 each."""
    metric = FrechetDistance(Cloud(20000), Means())
    assert fed(metric, samples(20000, 0.5)) == pytest.approx(4 * 0.25, abs=0.05)
    metric.reset()
    assert fed(metric, samples(20000)) == pytest.approx(0, abs=0.01)


def test_real_pictures_are_looked_at_once():
    class Counted(Means):
        seen = 0

        def forward(self, images):
            Counted.seen += len(images)
            return super().forward(images)

    metric = FrechetDistance(Cloud(500), Counted(), count=300)
    first = fed(metric, samples(200))
    metric.reset()
    assert fed(metric, samples(200)) == first
    assert Counted.seen == 300 + 2 * 200


def test_the_kernel_distance_is_the_same_every_time_and_touches_no_global_seed():
    metric = KernelDistance(Cloud(400), Means())
    torch.manual_seed(5)
    first = fed(metric, samples(400, 1.0))
    drawn = torch.rand(1)
    metric.reset()
    torch.manual_seed(5)
    assert fed(metric, samples(400, 1.0)) == first
    assert torch.rand(1) == drawn
    metric.reset()
    assert abs(fed(metric, samples(400))) < first / 10


def test_precision_and_recall_see_the_two_ways_to_fail():
    real = Cloud(500)
    narrow, wide = samples(500) * 0.1 + 0.45, (samples(500) - 0.5) * 5 + 0.5
    values = {
        name: (fed(Precision(real, Means()), x), fed(Recall(real, Means()), x))
        for name, x in {"same": samples(500), "narrow": narrow, "wide": wide}.items()
    }
    assert min(values["same"]) > 0.8
    assert values["narrow"][0] > 0.95 > 0.3 > values["narrow"][1]
    assert values["wide"][0] < 0.3 < values["wide"][1]


def test_memorising_is_seen():
    train, held_out = Cloud(300, seed=3), Cloud(200, seed=4)
    metric = CloserToTraining(train, held_out, Means())
    assert fed(metric, (train.x[:200] + 1) / 2) == 1
    metric.reset()
    assert fed(metric, (held_out.x + 1) / 2) == 0.5
    metric.reset()
    assert fed(metric, samples(4000)) == pytest.approx(0.5, abs=0.06)


def test_inception_says_what_it_needs(monkeypatch):
    monkeypatch.setattr("torchmetrics.utilities.imports._TORCH_FIDELITY_AVAILABLE", False)
    metric = FrechetDistance(Cloud(10), Inception())
    with pytest.raises(SettingsError, match=r"pip install graft_lightning\[inception\]"):
        metric.update(samples(4))


def test_inception_makes_no_black_image_of_a_broken_one():
    class Means(torch.nn.Module):
        def forward(self, pixels):
            return pixels.float().mean((2, 3))

    features = Inception()
    features._built.append(Means())
    images = torch.full((3, 1, 4, 4), 0.2)
    images[1, 0, 2, 2] = torch.nan
    found = features(images)
    assert found[[0, 2]].tolist() == [[51.0] * 3] * 2
    assert found[1].isnan().all()
    with pytest.raises(ValueError, match=r"samples reach from -0\.6 to -0\.6; expected floats in"):
        features(2 * images[:1] - 1)
