"""Manifolds of samples in a space of features, as unions of balls (arXiv 1904.06991)."""

import torch
from torch import Tensor


def covered(points: Tensor, manifold: Tensor, neighbours: int) -> Tensor:
    """Share of points within a manifold, a scalar.

    Args:
        points: ``(n, features)``.
        manifold: ``(m, features)``, each the middle of a ball that reaches to its ``neighbours``-th neighbour.
        neighbours: 1 to m - 1.
    """
    own = torch.cdist(manifold, manifold)
    radius = own.kthvalue(neighbours + 1, dim=1).values  # the nearest of all is the point itself
    return (torch.cdist(points, manifold) <= radius).any(1).double().mean()
