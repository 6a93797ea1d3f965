"""How far samples have drifted from the base's of the same seeds, and how far the base's own halves are apart.

Both are squared maximum mean discrepancies with the kernel (x y / d + 1)^3 of features (KID, arXiv 1801.01401). Of two
samples of the same seed, which are not independent, no pair is counted: over all others the estimate is unbiased.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

SPLITS = 200
"""Random halves of the base that are compared."""

QUANTILE = 0.99
"""Of the distances between halves: what the base's own samples show."""

ROWS = 2000
"""Most samples whose kernel with all others is taken; of more, evenly spaced ones."""


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x y / d + 1)^3 of every row of ``x`` ``(n, d)`` and of ``y`` ``(m, d)``."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def paired_distance(now: Tensor, base: Tensor) -> float:
    """The distance of two sets of features whose rows belong together.

    Args:
        now: ``(n, d)``.
        base: ``(n, d)``, of the same seeds in the same order.

    Returns:
        0 for the same rows, about 0 for other draws of the same distribution; NaN of fewer than two rows.
    """
    count = len(now)
    if count < 2:
        return float("nan")
    x, y = now.double(), base.double()
    total = polynomial_kernel(x, x) + polynomial_kernel(y, y) - 2 * polynomial_kernel(x, y)
    return float((total.sum() - total.diagonal().sum()) / (count * (count - 1)))


def distance_of_halves(base: Tensor, conditions: Sequence[str], splits: int = SPLITS) -> float:
    """The distance that random halves of the base's samples seldom exceed, the 99 % quantile.

    Each condition has as many samples in one half as in the other, up to one. Chance alone takes sets of n samples
    about 1 / n apart, hence halves twice as far as two sets of the whole size.

    Args:
        base: features ``(n, d)``.
        conditions: one a row.
        splits: how many random halves; the same ones every time.

    Returns:
        The quantile; NaN of fewer than four rows.
    """
    count = len(base)
    if count < 4:
        return float("nan")
    numbers = {text: place for place, text in enumerate(dict.fromkeys(conditions))}
    groups = torch.tensor([numbers[text] for text in conditions], dtype=torch.float64)
    generator = torch.Generator().manual_seed(count)
    keys = groups + torch.rand(splits, count, generator=generator, dtype=torch.float64)
    order = keys.argsort(1)  # condition by condition, within one at random; every second one is of the first half
    first = torch.zeros(splits, count, dtype=torch.float64)
    alternating = (torch.arange(count) + torch.randint(2, (splits, 1), generator=generator)) % 2
    first.scatter_(1, order, alternating.double())
    second = 1 - first
    kernel = polynomial_kernel(base.double(), base.double()).cpu()
    off = kernel - torch.diag(kernel.diagonal())
    a, b = first.sum(1), second.sum(1)
    mixed = first @ off
    within = (mixed * first).sum(1) / (a * (a - 1)) + (second @ off * second).sum(1) / (b * (b - 1))
    return float(torch.quantile(within - 2 * (mixed * second).sum(1) / (a * b), QUANTILE))
