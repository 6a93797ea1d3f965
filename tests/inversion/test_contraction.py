"""Power iteration for eta L."""

import torch

from graft_lightning.inversion.contraction import lipschitz
from tests.inversion.fields import normals

SEEDS = torch.arange(6)


def test_lipschitz_is_the_spectral_norm():
    matrix = normals(7, 7)
    found = lipschitz(lambda x: x @ matrix.T, normals(6, 7), SEEDS, iterations=100)
    torch.testing.assert_close(found, torch.linalg.matrix_norm(matrix, 2).expand(6), rtol=1e-4, atol=0)


def test_every_sample_has_its_own_slope():
    x = torch.linspace(0, 1.5, 6).double().unsqueeze(1)
    torch.testing.assert_close(lipschitz(torch.sin, x, SEEDS), torch.cos(x).squeeze(1))
