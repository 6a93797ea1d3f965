import pytest
import torch

from graft_lightning.domains.digits import DigitFeatures, RealDigits
from graft_lightning.domains.digits.distances import (
    CloserToTraining,
    FrechetDistance,
    KernelDistance,
    Precision,
    Recall,
)
from graft_lightning.domains.digits.flow import real_digits


def images(part, count=None):
    return ((real_digits(part) + 1) / 2)[:count]


def measured(metric, samples):
    for part in samples.split(100):
        metric.update(part, [""] * len(part))
    return float(metric.compute())


def test_frechet_distance_is_that_of_torchmetrics():
    from torchmetrics.image.fid import _compute_fid

    x, y = (DigitFeatures()(images(part)).double() for part in ("train", "held_out"))
    expected = _compute_fid(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T))
    assert measured(FrechetDistance(), images("train")) == pytest.approx(float(expected), rel=1e-6)


def test_kernel_distance_is_that_of_torchmetrics():
    from torchmetrics.image.kid import poly_mmd

    x, y = (DigitFeatures()(images(part, 500)).double() for part in ("train", "held_out"))
    assert measured(KernelDistance(), images("train", 500)) == pytest.approx(float(poly_mmd(x, y)), rel=1e-6)


def test_what_is_equal_is_near_and_noise_is_far():
    noise = torch.rand(500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert measured(FrechetDistance(), images("held_out")) == pytest.approx(0, abs=1e-5)
    assert measured(KernelDistance(), images("held_out")) < 0.01
    assert measured(FrechetDistance(), noise) > 10 * measured(FrechetDistance(), images("train"))
    assert measured(KernelDistance(), noise) > 10 * measured(KernelDistance(), images("train"))


def test_precision_and_recall_see_different_faults():
    assert measured(Precision(), images("held_out")) == measured(Recall(), images("held_out")) == 1
    features = DigitFeatures()(images("held_out"))
    nearest = (features - features[0]).norm(dim=1).argsort()[:40]
    few = images("held_out")[nearest]  # realistic, but of one kind
    assert measured(Precision(), few) == 1
    assert measured(Recall(), few) < 0.5
    noise = torch.rand(500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert measured(Precision(), noise) < 0.1


def test_repetition_of_training_digits_is_seen():
    train = (RealDigits().batch(range(1297), 0)[0] + 1) / 2
    # some digits are in the data twice, once in each part
    assert measured(CloserToTraining(), train) == pytest.approx(1, abs=0.01)
    assert measured(CloserToTraining(), images("held_out")) == 0.5
    noise = torch.rand(500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert measured(CloserToTraining(), noise) < 0.01
