"""Manifolds of samples in a space of features, as unions of balls (arXiv 1904.06991)."""

import torch
from torch import Tensor

BLOCK = 1024
"""Rows whose distances from all others are in memory at a time."""


def covered(points: Tensor, manifold: Tensor, neighbours: int) -> Tensor:
    """Share of points within a manifold, a scalar; NaN of no point, and where balls have too few neighbours.

    Args:
        points: ``(n, features)``.
        manifold: ``(m, features)``, each the middle of a ball that reaches to its ``neighbours``-th neighbour.
        neighbours: 1 or more; less than m, or there is no manifold.
    """
    if not len(points) or len(manifold) <= neighbours:
        return torch.tensor(torch.nan, dtype=torch.float64, device=points.device)
    points, manifold = points.double(), manifold.double()
    # the nearest of all is the point itself
    radii = [torch.cdist(b, manifold).kthvalue(neighbours + 1, dim=1).values for b in manifold.split(BLOCK)]
    radius = torch.cat(radii)
    inside = [(torch.cdist(block, manifold) <= radius).any(1) for block in points.split(BLOCK)]
    return torch.cat(inside).double().mean()
