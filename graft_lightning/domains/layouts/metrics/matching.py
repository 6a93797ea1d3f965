"""MaxIoU and DocSim: how alike two layouts, and two sets of layouts, are under the best assignment of their parts.

References:
    MaxIoU: LayoutGAN++, arXiv 2108.00871. DocSim: READ, arXiv 1909.00302.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from graft_lightning.domains.layouts.layout import Layout

COUNTS_APART = 3
"""Layouts whose numbers of elements differ by so many are not alike at all, by DocSim."""


def assigned(scores: np.ndarray) -> np.ndarray:
    """The scores of the assignment of rows to columns whose sum is largest; ``min(rows, columns)`` of them.

    Args:
        scores: ``(rows, columns)``, finite.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(scores, maximize=True)
    return scores[rows, columns]


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every box of ``a`` with every one of ``b``; NaN of two boxes without an area.

    Args:
        a: centre and size, float64 ``(n, 4)``.
        b: centre and size, float64 ``(m, 4)``.
    """
    low = np.maximum((a[:, :2] - a[:, 2:] / 2)[:, None], b[:, :2] - b[:, 2:] / 2)
    high = np.minimum((a[:, :2] + a[:, 2:] / 2)[:, None], b[:, :2] + b[:, 2:] / 2)
    shared = (high - low).clip(min=0).prod(-1)
    union = a[:, 2:].prod(1)[:, None] + b[:, 2:].prod(1) - shared
    with np.errstate(invalid="ignore", divide="ignore"):
        return shared / union


def layout_iou(a: Layout, b: Layout, skip_undefined: bool = False) -> float:
    """Mean IoU of the elements of two layouts with the same labels, under the best assignment within each label.

    Boxes without an area have no IoU with each other (0 / 0). That counts as 0, and only for the pairs concerned.

    Args:
        a: a layout.
        b: another one, with as many elements of each label.
        skip_undefined: whether a label with such a pair is passed over as a whole, as LayoutFlow's code has it. The sum
            is still divided by the number of all elements, so that the value falls.
    """
    total = 0.0
    for label in np.unique(a.labels):
        found = iou(a.boxes[a.labels == label], b.boxes[b.labels == label])
        if np.isnan(found).any():
            if skip_undefined:
                continue
            found = np.nan_to_num(found)
        total += float(assigned(found).sum())
    return total / len(a.labels)


def max_iou(layouts: Sequence[Layout], real: Sequence[Layout], skip_undefined: bool = False) -> tuple[float, int]:
    """MaxIoU of two sets of layouts, and how many pairs it is the mean of.

    Layouts are grouped by their labels and how often each occurs. Within a group, those of one set are assigned to
    those of the other so that the sum of `layout_iou` is largest; the mean is over all assigned pairs. Groups that only
    one set has do not count: 0, of no pair, if there is no other.

    Args:
        layouts: of one set.
        real: of the other.
        skip_undefined: as in `layout_iou`.
    """
    groups, others = _by_labels(layouts), _by_labels(real)
    scores: list[np.ndarray] = []
    for key in sorted(groups.keys() & others.keys()):
        scores.append(assigned(_table(groups[key], others[key], lambda a, b: layout_iou(a, b, skip_undefined))))
    found = np.concatenate(scores) if scores else np.zeros(0)
    return (float(found.mean()) if len(found) else 0.0), len(found)


def _by_labels(layouts: Sequence[Layout]) -> dict[tuple[int, ...], list[Layout]]:
    groups: dict[tuple[int, ...], list[Layout]] = defaultdict(list)
    for layout in layouts:
        if len(layout):
            groups[tuple(sorted(layout.labels.tolist()))].append(layout)
    return groups


def _table(a: Sequence[Layout], b: Sequence[Layout], score: Callable[[Layout, Layout], float]) -> np.ndarray:
    return np.array([[score(one, other) for other in b] for one in a])


def weights(a: Layout, b: Layout) -> np.ndarray:
    """DocSim's weight of every element of ``a`` with every one of ``b``, float64 ``(n, m)``.

    The root of the smaller area, times 2^(-distance of the centres - 2 (|difference of widths| + |of heights|)); 0 of
    different labels.
    """
    distance = np.linalg.norm(a.boxes[:, None, :2] - b.boxes[:, :2], axis=-1)
    sizes = np.abs(a.boxes[:, None, 2:] - b.boxes[:, 2:]).sum(-1)
    area = np.minimum(a.boxes[:, 2:].prod(1)[:, None], b.boxes[:, 2:].prod(1)).clip(min=0)
    return np.where(a.labels[:, None] == b.labels, np.sqrt(area) * 2.0 ** (-distance - 2 * sizes), 0.0)


def docsim(a: Layout, b: Layout) -> float:
    """DocSim of two layouts: the mean weight of the elements under the assignment with the largest sum.

    0 if one has no element, or if the numbers of elements differ by `COUNTS_APART` or more. What is left over in the
    larger layout does not count.
    """
    if not len(a) or not len(b) or abs(len(a) - len(b)) >= COUNTS_APART:
        return 0.0
    return float(assigned(weights(a, b)).mean())


def set_docsim(layouts: Sequence[Layout], real: Sequence[Layout]) -> float:
    """Mean DocSim of two sets of layouts under the assignment of their layouts with the largest sum; NaN of nothing.

    Papers that have a real layout for each condition take the mean over those pairs: `docsim` one by one.
    """
    if not len(layouts) or not len(real):
        return float("nan")
    return float(assigned(_table(layouts, real, docsim)).mean())
