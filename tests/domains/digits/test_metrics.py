import math

import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from graft_lightning.domains.digits.data import DigitPairs, digits
from graft_lightning.domains.digits.metrics import DigitFeatures, Diversity, mean_pairwise_distance, recognise


def test_the_judge_recognises_digits_it_has_not_seen() -> None:
    for third in ("reference", "reward"):
        images, labels = digits(third)
        assert (recognise(images) == labels).float().mean() > 0.95
    assert recognise(torch.zeros(2, 8, 8)).tolist() == [10, 10]
    assert recognise(torch.zeros(0, 8, 8)).shape == (0,)


def test_mean_pairwise_distance_of_points_on_a_line() -> None:
    points = torch.tensor([[0.0], [3.0], [4.0]])
    assert mean_pairwise_distance(points) == pytest.approx((3 + 4 + 1) / 3)
    assert mean_pairwise_distance(points[:1]).isnan()
    assert mean_pairwise_distance(points[:1].expand(5, 1)) == 0


def test_diversity_is_within_conditions_whatever_the_batches() -> None:
    samples = torch.tensor([0.0, 10.0, 1.0, 13.0, 5.0]).reshape(5, 1, 1, 1)
    conditions = ["a", "b", "a", "b", "single"]
    whole, parts = Diversity(), Diversity()
    whole.update(samples, conditions)
    parts.update(samples[:2], conditions[:2])
    parts.update(samples[2:], conditions[2:])
    assert whole.per_condition() == {"a": 1.0, "b": 3.0}
    assert whole.compute() == parts.compute() == 2.0
    assert math.isnan(Diversity().compute())


@pytest.mark.parametrize(("image_size", "features"), [(8, 32), (16, 128)])
def test_features_serve_torchmetrics_frechet_distance(image_size: int, features: int) -> None:
    extractor = DigitFeatures(image_size)
    assert extractor.num_features == features
    if image_size == 8:
        real, other = digits("judge")[0][:, None], digits("reference")[0][:, None]
    else:
        real, other = ((DigitPairs(600, seed=s).batch(torch.arange(600))[0] + 1) / 2 for s in (1, 2))
    near, far = FrechetInceptionDistance(extractor), FrechetInceptionDistance(extractor)
    for metric, fake in ((near, other), (far, torch.rand_like(other))):
        metric.update(real, real=True)
        metric.update(fake, real=False)
    assert 0 <= near.compute() < 0.2 * far.compute()


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size is 28"):
        DigitFeatures(28)
    with pytest.raises(ValueError, match=r"\(1, 1, 8, 8\)"):
        DigitFeatures(16)(torch.zeros(1, 1, 8, 8))
