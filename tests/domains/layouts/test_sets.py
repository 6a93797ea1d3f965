"""Metrics of many layouts at once, by hand and through torchmetrics."""

import math

import numpy as np
import pytest
import torch

from graft_lightning.domains.layouts import metrics
from graft_lightning.domains.layouts.coverage import coverage
from graft_lightning.domains.layouts.deduplication import NOTHING, layout_keys
from graft_lightning.domains.layouts.examples import EmbeddedLayouts
from graft_lightning.domains.layouts.layout import Layout, padded
from graft_lightning.domains.layouts.metrics import distributions, matching
from graft_lightning.domains.layouts.metrics.sets import AgainstRealLayouts
from graft_lightning.types import SettingsError
from tests.domains.together import together


def layout(labels, boxes=None):
    boxes = [[0.5, 0.5, 0.2, 0.2]] * len(labels) if boxes is None else boxes
    return Layout(np.array(labels, dtype=np.int64), np.array(boxes, dtype=np.float64).reshape(-1, 4))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return EmbeddedLayouts(count=60, cache=str(tmp_path_factory.mktemp("sets")), part="all")


def test_distances_by_hand():
    ours, real = [layout([0, 0]), layout([1, 2])], [layout([0, 1, 1, 1])]
    # shares of the labels: 1/2, 1/4, 1/4 against 1/4, 3/4, 0
    assert distributions.class_distance(ours, real, 4) == pytest.approx(0.25 + 0.5 + 0.25)
    # a layout has 0 or 2 of the first label against 1; 0 or 1 of the second against 3; 0 or 1 of the third against 0
    assert distributions.label_count_distance(ours, real, 4) == pytest.approx((1 + 2.5 + 0.5 + 0) / 4)
    assert distributions.count_distance(ours, real) == pytest.approx(2)
    moved = [layout([0, 1], [[0.6, 0.5, 0.2, 0.5], [0.6, 0.5, 0.2, 0.5]])]
    assert distributions.box_distance(moved, [layout([2])]) == pytest.approx((0.1 + 0 + 0 + 0.3) / 4)
    for distance in (distributions.box_distance, distributions.count_distance):
        assert math.isnan(distance([], real))
    assert math.isnan(distributions.class_distance([layout([])], real, 4))
    assert distributions.class_distance([layout([0])], [layout([1])], 2) == 2


def test_real_layouts_are_like_themselves(real):
    samples = real.layouts.read(slice(0, 60))
    found = {}
    for name in ("MaxIoU", "DocSim", "ClassDistance", "LabelCountDistance", "BoxDistance", "CountDistance"):
        metric = getattr(metrics, name)(real, count=60)
        metric.update(samples)
        found[name] = float(metric.compute())
    own = [matching.docsim(one, one) for one in real.layouts.layouts()]
    assert found.pop("DocSim") >= np.mean(own) - 1e-9
    assert found == pytest.approx(
        {"MaxIoU": 1, "ClassDistance": 0, "LabelCountDistance": 0, "BoxDistance": 0, "CountDistance": 0}
    )


def test_classes_agree_with_functions_over_several_batches(real):
    pieces = [
        list(EmbeddedLayouts(page_seed=9, count=30, cache=real.cache, part="all").layouts.layouts())[k::2]
        for k in (0, 1)
    ]
    known = metrics.MaxIoU(real, 40).real_layouts
    assert len(known) == 40
    for metric, expected in (
        (metrics.MaxIoU(real, 40), matching.max_iou([*pieces[0], *pieces[1]], known)[0]),
        (metrics.BoxDistance(real, 40), distributions.box_distance([*pieces[0], *pieces[1]], known)),
        (metrics.LabelCountDistance(real, 40), distributions.label_count_distance([*pieces[0], *pieces[1]], known, 5)),
    ):
        for piece in pieces:
            metric.update(padded(piece))
        assert float(metric.compute()) == pytest.approx(expected, rel=1e-5)
        metric.reset()
        metric.update(padded(known))
        assert float(metric.compute()) != pytest.approx(expected)


def test_repeated_and_unique(real):
    samples = real.layouts.read(range(10))
    shuffled = samples.clone()
    for row in range(10):
        n = int(samples["mask"][row].sum())
        order = torch.randperm(n, generator=torch.Generator().manual_seed(row))
        shuffled["box"][row, :n], shuffled["label"][row, :n] = samples["box"][row, order], samples["label"][row, order]
    fresh = padded(list(EmbeddedLayouts(page_seed=5, count=10, cache=real.cache, part="all").layouts.layouts()))
    repeated, unique = metrics.Repeated(real), metrics.Uniqueness()
    for batch in (shuffled, fresh, fresh):
        repeated.update(batch)
        unique.update(batch)
    assert float(repeated.compute()) == pytest.approx(10 / 30)
    assert float(unique.compute()) == pytest.approx(20 / 30)


def test_keys():
    one = layout([0, 1], [[0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.1, 0.1]])
    close = layout([1, 0], [[0.2003, 0.2, 0.1, 0.1], [0.5, 0.5, 0.2, 0.2]])
    others = [
        layout([1, 0], one.boxes),
        layout([0, 1], one.boxes + np.array([[0.02, 0, 0, 0], [0, 0, 0, 0]])),
        layout([0, 1, 1], np.concatenate([one.boxes, one.boxes[1:]])),
        layout([0], one.boxes[:1]),
    ]
    keys = layout_keys(padded([one, close, *others, layout([]), layout([0], [[math.nan, 0.5, 0.1, 0.1]])])).tolist()
    assert keys[0] == keys[1]
    assert len(set(keys[1:6])) == 5
    assert keys[6:] == [NOTHING, NOTHING]
    assert min(keys[:6]) >= 0
    assert layout_keys(padded([one], 9)).tolist() == keys[:1]  # padding is no part of a layout


def test_an_element_counts_once_whatever_is_left_out():
    metric = metrics.Elements()
    metric.update(padded([layout([0, 1]), layout([0]), layout([]), layout([0], [[math.inf, 0, 0, 0]])]))
    assert float(metric.compute()) == pytest.approx(1.0)


def test_coverage_by_hand_and_whatever_the_order():
    one = layout([1, 0, 1], [[0.25, 0.5, 0.5, 1.0], [0.5, 0.5, 1.0, 0.5], [0.25, 0.25, 0.5, 0.5]])
    found = coverage(padded([one], 7), labels=2, grid=2).reshape(2, 2, 2)  # label, row, column
    assert found[0].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert found[1].tolist() == [[2, 0], [1, 0]]
    turned = Layout(one.labels[[2, 0, 1]], one.boxes[[2, 0, 1]])
    assert torch.allclose(coverage(padded([turned]), 2, 5), coverage(padded([one]), 2, 5))
    assert coverage(padded([layout([0], [[math.nan, 0, 0, 0]])]), 2).isnan().all()


def test_diversity_is_none_of_copies():
    metric = metrics.LayoutDiversity()
    one, other = layout([0], [[0.25, 0.5, 0.5, 1.0]]), layout([0], [[0.75, 0.5, 0.5, 1.0]])
    metric.update(padded([one, one, one]), ["a", "a", "a"])
    metric.update(padded([one, other]), ["b", "b"])
    # half of the 256 cells of the page each: the distance is the root of all of them
    assert float(metric.compute()) == pytest.approx((0 + 16) / 2)


def test_processes_gather_what_each_has_seen(real, tmp_path):
    samples = real.layouts.read(range(9))

    def work(rank):
        metric = metrics.MaxIoU(real, 40)
        for rows in ([slice(0, 2), slice(2, 5)], [slice(5, 9)])[rank]:
            metric.update(samples[rows])
        return float(metric.compute())

    alone = metrics.MaxIoU(real, 40)
    alone.update(samples)
    assert set(together(work, tmp_path)) == {float(alone.compute())}


def test_too_few_real_layouts_are_refused(real):
    with pytest.raises(SettingsError, match="count=0"):
        metrics.MaxIoU(real, count=0)
    with pytest.raises(SettingsError, match="count=61, but there are only 60"):
        metrics.MaxIoU(real, count=61).real_layouts  # noqa: B018
    with pytest.raises(SettingsError, match="variant='x'"):
        metrics.MaxIoU(real, variant="x")
    assert len(AgainstRealLayouts(real).real_layouts) == 60
