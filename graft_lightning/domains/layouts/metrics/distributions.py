"""Distances between the distributions of what layouts are made of.

``class_distance`` and ``box_distance`` are LayoutDM's Wasserstein distances. Its first one is, more exactly, the total
variation of the shares of labels, times two; ``label_count_distance`` is the Wasserstein distance of how many elements
of a label a layout has.
"""

from collections.abc import Sequence

import numpy as np

from graft_lightning.domains.layouts.layout import Layout


def class_distance(layouts: Sequence[Layout], real: Sequence[Layout], labels: int) -> float:
    """Sum over labels of the absolute difference of their shares among all elements; between 0 and 2, NaN of nothing.

    Args:
        layouts: of one set.
        real: of the other.
        labels: of the vocabulary.
    """
    shares = [np.bincount(_labels(some), minlength=labels) / max(len(_labels(some)), 1) for some in (layouts, real)]
    if not len(_labels(layouts)) or not len(_labels(real)):
        return float("nan")
    return float(np.abs(shares[0] - shares[1]).sum())


def label_count_distance(layouts: Sequence[Layout], real: Sequence[Layout], labels: int) -> float:
    """Wasserstein distance of the number of elements of a label in a layout, mean over labels, in elements.

    Args:
        layouts: of one set.
        real: of the other.
        labels: of the vocabulary.
    """
    if not len(layouts) or not len(real):
        return float("nan")
    one, other = (np.array([np.bincount(x.labels, minlength=labels) for x in some]) for some in (layouts, real))
    return float(np.mean([wasserstein(one[:, label], other[:, label]) for label in range(labels)]))


def box_distance(layouts: Sequence[Layout], real: Sequence[Layout]) -> float:
    """Wasserstein distance of centre x, centre y, width and height over all elements, mean of the four."""
    one, other = (np.concatenate([np.zeros((0, 4)), *(x.boxes for x in some)]) for some in (layouts, real))
    if not len(one) or not len(other):
        return float("nan")
    return float(np.mean([wasserstein(one[:, k], other[:, k]) for k in range(4)]))


def count_distance(layouts: Sequence[Layout], real: Sequence[Layout]) -> float:
    """Wasserstein distance of the number of elements of a layout, in elements."""
    if not len(layouts) or not len(real):
        return float("nan")
    return wasserstein(np.array([len(x) for x in layouts]), np.array([len(x) for x in real]))


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """Of two samples of a number."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(a, b))


def _labels(layouts: Sequence[Layout]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *(x.labels for x in layouts)])
