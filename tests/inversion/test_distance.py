"""Inverse noise against N(0, I)."""

import pytest
import torch

from graft_lightning.inversion.distance import distance_from_normal, marchenko_pastur_edges, norm_gap, norm_ratio
from tests.inversion.fields import normals


@pytest.mark.parametrize(("samples", "shape"), [(2000, (1, 8, 8)), (100, (400,))])
def test_standard_noise_is_found_standard(samples, shape):
    found = distance_from_normal(normals(samples, *shape))
    d = torch.Size(shape).numel()
    assert (found.samples, found.dimension) == (samples, d)
    assert found.norm == pytest.approx(1, abs=5 * found.norm_standard_error)
    assert found.norm_standard_error == pytest.approx((2 / d / samples) ** 0.5, rel=0.3)
    assert found.norm_spread == pytest.approx(1, abs=0.3)
    assert found.mean_square == pytest.approx(1, abs=0.6)
    assert found.spectrum.shape == (min(samples - 1, d),)
    assert found.outside == 0
    assert found.spectrum[0] == pytest.approx(found.edges[1], rel=0.08)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda z: 1.2 * z, lambda d: d.norm > 1.3 and d.outside > 0.2),
        (lambda z: z + 0.2, lambda d: d.mean_square > 20),
        (lambda z: z * torch.linspace(0.3, 1.4, 64), lambda d: d.outside > 0.1),
        (lambda z: z * (0.5 + (torch.arange(2000) % 2)).unsqueeze(1), lambda d: d.norm_spread > 3),
    ],
    ids=["scaled", "shifted", "stretched", "of two lengths"],
)
def test_every_departure_shows_in_its_figure(change, seen):
    assert seen(distance_from_normal(change(normals(2000, 64))))


def test_the_spectrum_is_that_of_the_covariance():
    x = normals(300, 5) * torch.tensor([3.0, 1.0, 2.0, 0.5, 1.5])
    torch.testing.assert_close(distance_from_normal(x).spectrum, torch.linalg.eigvalsh(x.T.cov()).flip(0))
    assert marchenko_pastur_edges(400, 100) == (0.25, 2.25)


def test_a_memorising_base_shows_in_the_gap():
    train, held_out = normals(500, 64), 1.15 * normals(400, 64, seed=1)
    gap = norm_gap(train, held_out)
    assert gap.train == pytest.approx(1, abs=0.03)
    assert gap.held_out == pytest.approx(1.15**2, abs=0.04)
    assert gap.z_score > 10
    assert abs(norm_gap(train, normals(400, 64, seed=3)).z_score) < 3
    assert norm_ratio(torch.full((2, 1, 3), 2.0)).tolist() == [4, 4]


def test_failed_samples_are_refused():
    with pytest.raises(ValueError, match="all finite: False"):
        distance_from_normal(torch.tensor([[1.0], [torch.nan], [0.0]]))
    with pytest.raises(ValueError, match="1 samples"):
        distance_from_normal(torch.zeros(1, 3))


def test_the_gap_is_counted_in_standard_errors_of_both():
    """|z|^2 of 0 and 4, and of 1, 1 and 7: means 2 and 3, variances 8 and 12 over 2 and 3."""
    gap = norm_gap(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [-1.0], [7**0.5]]))
    assert (gap.train, gap.held_out) == pytest.approx((2, 3))
    assert gap.z_score == pytest.approx(1 / (8 / 2 + 12 / 3) ** 0.5)
