"""Power iteration for eta L."""

import pytest
import torch

from graft_lightning.inversion.contraction import lipschitz, spectral_radius
from tests.inversion.fields import normals, with_eigenvalues

SEEDS = torch.arange(6)


def test_lipschitz_is_the_spectral_norm():
    matrix = normals(7, 7)
    found = lipschitz(lambda x: x @ matrix.T, normals(6, 7), SEEDS, iterations=100)
    torch.testing.assert_close(found, torch.linalg.matrix_norm(matrix, 2).expand(6), rtol=1e-4, atol=0)


def test_the_radius_is_that_of_a_complex_pair():
    matrix = with_eigenvalues([0.6 + 0.9j, 0.4, -0.3])
    found = spectral_radius(lambda x: x @ matrix.T, normals(6, 4), SEEDS)
    torch.testing.assert_close(found, torch.full((6,), abs(0.6 + 0.9j)).double(), rtol=1e-6, atol=0)


def test_a_shear_stretches_more_than_its_radius():
    matrix = torch.tensor([[0.5, 10.0], [0.0, 0.4]]).double()
    x = normals(6, 2)
    assert (lipschitz(lambda x: x @ matrix.T, x, SEEDS) > 9).all()
    torch.testing.assert_close(
        spectral_radius(lambda x: x @ matrix.T, x, SEEDS, iterations=400),
        torch.full((6,), 0.5).double(),
        rtol=1e-2,
        atol=0,
    )


def test_every_sample_has_its_own_slope():
    x = torch.linspace(0, 1.5, 6).double().unsqueeze(1)
    torch.testing.assert_close(lipschitz(torch.sin, x, SEEDS), torch.cos(x).squeeze(1))


def test_a_radius_needs_two_iterations():
    with pytest.raises(ValueError, match="iterations=1"):
        spectral_radius(torch.sin, normals(1, 1), SEEDS[:1], iterations=1)
