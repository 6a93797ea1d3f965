"""MaxIoU and DocSim against all assignments, one by one."""

import itertools
import math

import numpy as np
import pytest

from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.domains.layouts.metrics.matching import docsim, iou, layout_iou, max_iou, set_docsim, weights


def drawn(rng, labels):
    """Boxes of any size around the middle, so that many overlap."""
    return Layout(
        np.array(labels),
        np.concatenate([rng.uniform(0.3, 0.7, (len(labels), 2)), rng.uniform(0.1, 0.6, (len(labels), 2))], 1),
    )


def pair_iou(a, b):
    """Of two boxes, by counting the corners of their overlap."""
    sides = [
        max(0.0, min(a[k] + a[2 + k] / 2, b[k] + b[2 + k] / 2) - max(a[k] - a[2 + k] / 2, b[k] - b[2 + k] / 2))
        for k in (0, 1)
    ]
    shared = sides[0] * sides[1]
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def best(rows, columns, score):
    """The largest sum of scores over all ways to assign the smaller set to the larger one, and the mean of it."""
    small, large = sorted((rows, columns))
    flip = (lambda i, j: score(i, j)) if rows <= columns else (lambda i, j: score(j, i))
    sums = [sum(flip(i, j) for i, j in enumerate(order)) for order in itertools.permutations(range(large), small)]
    return max(sums) / small


def test_iou_by_hand():
    a = np.array([[0.3, 0.3, 0.4, 0.4], [0.8, 0.8, 0.1, 0.1]])
    b = np.array([[0.5, 0.3, 0.4, 0.4], [0.3, 0.3, 0.2, 0.2]])
    assert iou(a, b) == pytest.approx(np.array([[1 / 3, 1 / 4], [0, 0]]))
    assert iou(a, a).diagonal() == pytest.approx([1, 1])


def test_layout_iou_against_all_assignments():
    rng = np.random.default_rng(1)
    for _ in range(30):
        labels = rng.integers(0, 2, 5)
        a, b = drawn(rng, labels), drawn(rng, rng.permutation(labels))
        orders = [o for o in itertools.permutations(range(5)) if (b.labels[list(o)] == a.labels).all()]
        expected = max(np.mean([pair_iou(a.boxes[i], b.boxes[o[i]]) for i in range(5)]) for o in orders)
        assert layout_iou(a, b) == pytest.approx(expected)


def test_max_iou_against_all_assignments():
    rng = np.random.default_rng(2)
    kinds = [[0, 0, 1], [1, 2], [0]]
    ours = [drawn(rng, kinds[k]) for k in (0, 0, 1, 1, 1, 2)]
    real = [drawn(rng, kinds[k]) for k in (0, 0, 0, 0, 1, 1)] + [drawn(rng, [2, 2])]
    expected, pairs = 0.0, 0
    for kind, (mine, theirs) in {0: (ours[:2], real[:4]), 1: (ours[2:5], real[4:6])}.items():
        number = min(len(mine), len(theirs))
        expected += number * best(len(mine), len(theirs), lambda i, j: layout_iou(mine[i], theirs[j]))  # noqa: B023
        pairs += number
        assert len(mine[0].labels) == len(kinds[kind])
    assert max_iou(ours, real) == (pytest.approx(expected / pairs), pairs)
    assert max_iou(ours, ours)[0] == pytest.approx(1)
    assert max_iou(ours[5:], real) == (0.0, 0)
    assert max_iou([], real) == (0.0, 0)


def test_the_order_of_elements_and_layouts_does_not_matter():
    rng = np.random.default_rng(3)
    ours, real = ([drawn(rng, [0, 1, 1, 2]) for _ in range(4)] for _ in range(2))
    turned = [Layout(x.labels[o], x.boxes[o]) for x in reversed(ours) if (o := rng.permutation(4)) is not None]
    assert max_iou(turned, real)[0] == pytest.approx(max_iou(ours, real)[0])
    assert set_docsim(turned, real) == pytest.approx(set_docsim(ours, real))


def test_boxes_without_area_have_no_iou_and_count_as_documented():
    flat = np.array([[0.5, 0.5, 0.0, 0.2], [0.3, 0.3, 0.4, 0.4], [0.6, 0.6, 0.2, 0.2]])
    one = Layout(np.array([0, 0, 1]), flat)
    assert math.isnan(iou(flat[:1], flat[:1]).item())
    # by default only that pair has 0: (0 + 1 + 1) / 3. LayoutFlow passes over its label: (1) / 3
    assert layout_iou(one, one) == pytest.approx(2 / 3)
    assert layout_iou(one, one, skip_undefined=True) == pytest.approx(1 / 3)
    assert max_iou([one], [one], skip_undefined=True)[0] == pytest.approx(1 / 3)


def test_docsim_by_hand():
    a = Layout(np.array([0]), np.array([[0.3, 0.3, 0.4, 0.4]]))
    b = Layout(np.array([0]), np.array([[0.6, 0.7, 0.4, 0.2]]))
    expected = math.sqrt(0.08) * 2 ** (-0.5 - 2 * 0.2)
    assert docsim(a, b) == pytest.approx(expected)
    assert docsim(a, Layout(np.array([1]), b.boxes)) == 0
    assert docsim(a, a) == pytest.approx(0.4)  # likeness to itself is the root of the area, not 1


def test_docsim_against_all_assignments():
    rng = np.random.default_rng(4)
    for size, other in ((3, 3), (4, 5), (5, 3), (1, 3)):
        a, b = drawn(rng, rng.integers(0, 2, size)), drawn(rng, rng.integers(0, 2, other))
        table = weights(a, b)
        assert docsim(a, b) == pytest.approx(best(size, other, lambda i, j: table[i, j]))  # noqa: B023
        assert docsim(b, a) == pytest.approx(docsim(a, b))


def test_docsim_of_layouts_of_very_different_size_is_nothing():
    rng = np.random.default_rng(5)
    some = {n: drawn(rng, [0] * n) for n in (0, 1, 2, 3, 4, 5)}
    assert [docsim(some[2], some[n]) > 0 for n in (0, 1, 2, 3, 4, 5)] == [False, True, True, True, True, False]
    assert math.isnan(set_docsim([], [some[1]]))
