"""Alignment and overlap: cases worked out by hand, and what they must not depend on."""

import math

import numpy as np
import pytest
import torch

from graft_lightning.domains.layouts.files import read_layouts
from graft_lightning.domains.layouts.inspection import Inspection
from graft_lightning.domains.layouts.layout import Layout, edges, padded
from graft_lightning.domains.layouts.metrics import Alignment, MeanIoU, Overlap
from graft_lightning.domains.layouts.metrics.geometry import alignment, mean_iou, overlap
from graft_lightning.domains.layouts.metrics.means import ALIGNMENTS, OVERLAPS
from graft_lightning.domains.layouts.pages import Pages
from graft_lightning.domains.layouts.vocabularies import PUBLAYNET, RICO13, RICO25
from graft_lightning.types import SettingsError


def layout(*rows, labels=None):
    """From rows of left, top, right, bottom."""
    ltrb = np.array(rows, dtype=np.float64).reshape(-1, 4)
    boxes = np.concatenate([(ltrb[:, :2] + ltrb[:, 2:]) / 2, ltrb[:, 2:] - ltrb[:, :2]], 1)
    return Layout(np.array(labels or [0] * len(boxes), dtype=np.int64), boxes)


# left edges are .3 apart, and nothing of the two is closer; the first one's left and upper edges are .1 from zero
APART = layout((0.1, 0.1, 0.3, 0.3), (0.4, 0.54, 0.7, 0.7))
# a third of the union, half of each
HALVES = layout((0.1, 0.1, 0.5, 0.5), (0.3, 0.1, 0.7, 0.5))
# the small one lies inside: all of its area, a quarter of the large one's
INSIDE = layout((0.0, 0.0, 0.4, 0.4), (0.1, 0.1, 0.3, 0.3))
G3, G1 = -math.log(0.7), -math.log(0.9)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("layoutganpp", 100 * G3),
        ("aclayoutgan", 2 * G3),
        ("ndn", 0.6),
        ("layoutdm", 100 * (G1 + G3) / 2),
        ("layoutdiffusion", 100 * (G1 + G3) / 2),
        ("layoutflow", 100 * (G1 + G3) / 2),
    ],
)
def test_alignment_by_hand(variant, expected):
    metric = Alignment(variant)
    metric.update(padded([APART]))
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-5)


def test_every_guide_counts():
    for axis in (0, 1):
        for guide in (-1, 0, 1):  # low, centre, high
            a, b = np.array([0.2, 0.3, 0.2, 0.14]), np.array([0.55, 0.72, 0.34, 0.3])
            b[axis] += (a[axis] + guide * a[2 + axis] / 2) - (b[axis] + guide * b[2 + axis] / 2) + 0.01
            samples = padded([Layout(np.zeros(2, np.int64), np.array([a, b]))])
            assert float(alignment(samples)) == pytest.approx(-math.log(0.99), rel=1e-4)
            expected = 0.02 if axis == 0 else None
            if expected is not None:
                assert float(alignment(samples, "ndn")) == pytest.approx(expected, rel=1e-4)
            else:
                assert float(alignment(samples, "ndn")) > 0.1


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("layoutganpp", (50.0, 62.5)),
        ("aclayoutgan", (1.0, 1.25)),
        ("layoutgan", (0.08, 0.04)),
        ("layoutdm", (0.5, 0.625)),
        ("layoutdiffusion", (0.5, 0.625)),
        ("layoutflow", (0.5, 0.625)),
    ],
)
def test_overlap_by_hand(variant, expected):
    for one, value in zip((HALVES, INSIDE), expected, strict=True):
        metric = Overlap(variant)
        metric.update(padded([one]))
        assert float(metric.compute()) == pytest.approx(value, rel=1e-5)


def test_mean_iou_is_over_the_pairs_that_overlap():
    three = layout((0.1, 0.1, 0.5, 0.5), (0.3, 0.1, 0.7, 0.5), (0.8, 0.8, 0.9, 0.9))
    assert mean_iou(padded([HALVES, INSIDE, three, APART])).tolist() == pytest.approx(
        [1 / 3, 1 / 4, 1 / 3, 0], rel=1e-5
    )
    metric = MeanIoU()
    metric.update(padded([HALVES, APART]))
    assert float(metric.compute()) == pytest.approx(1 / 6, rel=1e-5)


def test_the_trap_of_padding():
    """Elements near the left or upper edge look aligned to padding; the value falls with the width of the batch."""
    by_width = {width: padded([APART], width) for width in (2, 3, 20)}
    trapped = {width: float(alignment(samples, "layoutdm")) for width, samples in by_width.items()}
    assert trapped[2] == pytest.approx(G3, rel=1e-5)
    assert trapped[3] == trapped[20] == pytest.approx((G1 + G3) / 2, rel=1e-5)
    for variant in ("layoutganpp", "aclayoutgan", "ndn"):
        assert len({round(float(alignment(samples, variant)), 9) for samples in by_width.values()}) == 1
    assert len({round(float(overlap(samples)), 9) for samples in by_width.values()}) == 1
    # the width of the batch does not matter where a width is asked for
    assert float(alignment(by_width[2], "layoutflow", 20)) == pytest.approx((G1 + G3) / 2, rel=1e-5)


def test_what_padding_holds_does_not_matter():
    samples = padded([APART, layout(*[(0.1 * k, 0.1, 0.1 * k + 0.25, 0.3 + 0.01 * k) for k in range(5)])])
    dirty = samples.clone()
    dirty["box"][0, 2:] = torch.tensor([0.4, math.nan, math.inf, -3.0])
    dirty["label"][0, 2:] = 4
    for variant in ALIGNMENTS:
        assert torch.equal(alignment(dirty, variant), alignment(samples, variant))
    for variant in OVERLAPS:
        assert torch.equal(overlap(dirty, variant, (4,)), overlap(samples, variant, (4,)))
    assert torch.equal(mean_iou(dirty), mean_iou(samples))


def test_the_order_of_elements_does_not_matter():
    pages = list(Pages(misaligned=1.0, jitter=0.05).pages(20))
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(page)) for page in pages]
    turned = [Layout(p.labels[o], p.boxes[o]) for p, o in zip(pages, orders, strict=True)]
    for variant in ALIGNMENTS:
        assert alignment(padded(turned), variant).tolist() == pytest.approx(alignment(padded(pages), variant).tolist())
    for variant in OVERLAPS:
        found = overlap(padded(turned), variant, (1,)).tolist()
        assert found == pytest.approx(overlap(padded(pages), variant, (1,)).tolist())


def test_against_a_loop_over_pairs():
    pages = list(Pages(misaligned=1.0, jitter=0.05).pages(30))
    samples = padded(pages)
    for i, page in enumerate(pages):
        ltrb = edges(samples["box"][i].double())[: len(page)].numpy()
        sums = [0.0, 0.0]
        for a in range(len(page)):
            guides = []
            for b in range(len(page)):
                if a == b:
                    continue
                (l1, t1, r1, b1), (l2, t2, r2, b2) = ltrb[a], ltrb[b]
                guides += [abs(l1 - l2), abs(r1 - r2), abs(l1 + r1 - l2 - r2) / 2]
                guides += [abs(t1 - t2), abs(b1 - b2), abs(t1 + b1 - t2 - b2) / 2]
                shared = max(0, min(r1, r2) - max(l1, l2)) * max(0, min(b1, b2) - max(t1, t2))
                sums[1] += shared / ((r1 - l1) * (b1 - t1))
            sums[0] -= math.log(1 - min(guides)) if guides else 0
        assert float(alignment(samples)[i]) == pytest.approx(sums[0] / len(page), abs=1e-9)
        assert float(overlap(samples)[i]) == pytest.approx(sums[1] / len(page), abs=1e-9)


def test_labels_that_lie_under_others_do_not_count_for_those_papers():
    card = RICO25.index("Card")
    screen = padded([layout((0.1, 0.1, 0.5, 0.5), (0.3, 0.1, 0.7, 0.5), (0, 0, 1, 1), labels=[0, 1, card])])
    for variant, value in (("layoutflow", 0.5), ("layoutdiffusion", 0.5)):
        metric = Overlap(variant, "rico25")
        metric.update(screen)
        assert float(metric.compute()) == pytest.approx(value, rel=1e-5)
    metric = Overlap("layoutdm", "rico25")
    metric.update(screen)
    assert float(metric.compute()) == pytest.approx((1 + 2 + 2 * 0.16) / 3, rel=1e-5)
    only = padded([layout((0, 0, 1, 1), (0, 0, 1, 1), labels=[card, card])])
    assert float(overlap(only, "layoutflow", RICO25.background_indices)) == 0
    assert [RICO25.labels[k] for k in RICO25.background_indices] == ["List Item", "Card", "Background Image", "Modal"]
    assert [k + 1 for k in RICO25.background_indices] == [4, 9, 11, 17]  # as LayoutFormer++ counts them
    assert (PUBLAYNET.background_indices, len(RICO13.background_indices)) == ((), 3)


def test_layouts_without_a_number_are_left_out_and_counted():
    broken = layout((0.1, 0.1, 0.5, 0.5), (0.3, math.nan, 0.7, 0.5))
    samples = padded([APART, broken, layout(), APART])
    for metric, value in ((Alignment(), 100 * G3), (Overlap(), 0.0), (MeanIoU(), 0.0)):
        metric.update(samples)
        with pytest.warns(UserWarning, match="2 layouts have no element, or a box that is not finite"):
            assert float(metric.compute()) == pytest.approx(value, rel=1e-5)
    nothing = Alignment()
    nothing.update(padded([]))
    assert math.isnan(nothing.compute())


def test_one_element_is_aligned_and_does_not_overlap():
    one = padded([layout((0.2, 0.2, 0.4, 0.4))])
    for variant in ("layoutganpp", "aclayoutgan", "ndn"):
        assert float(alignment(one, variant)) == 0
    assert float(overlap(one)) == 0


def test_boxes_far_off_the_page_and_without_area_stay_finite():
    far = padded([layout((-5, -5, -4, -4), (3, 3, 4.5, 5)), layout((0.2, 0.2, 0.2, 0.4), (0.1, 0.1, 0.5, 0.5))])
    for variant in ALIGNMENTS:
        assert alignment(far, variant).isfinite().all()
    for variant in OVERLAPS:
        assert overlap(far, variant).tolist() == [0, 0]


def test_real_pages(test_data):
    """PubLayNet's 20 examples as LayoutDM keeps them, against values worked out elsewhere."""
    inspection = Inspection(PUBLAYNET, max_elements=25, portrait=True)
    pages = list(read_layouts(test_data / "publaynet_sample" / "samples.json", inspection))
    assert len(pages) == 19
    samples = padded(pages, 25)
    assert round(float(100 * alignment(samples).mean()), 4) == 0.0031
    assert round(float(100 * overlap(samples).mean()), 4) == 0.5369


def test_batches_add_up():
    pages = list(Pages(misaligned=1.0).pages(40))
    whole, parts = Alignment(), Alignment()
    whole.update(padded(pages))
    for start in (0, 7, 30):
        parts.update(padded(pages[start : {0: 7, 7: 30, 30: 40}[start]]))
    assert float(parts.compute()) == pytest.approx(float(whole.compute()))


@pytest.mark.parametrize(("metric", "first"), [(Alignment, "layoutganpp"), (Overlap, "layoutganpp")])
def test_unknown_variants_are_refused(metric, first):
    with pytest.raises(SettingsError, match=f"variant='blt'; .*{first}"):
        metric("blt")
    with pytest.raises(SettingsError, match="vocabulary='rico'; it is one of publaynet"):
        Overlap("layoutflow", "rico")
    with pytest.raises(SettingsError, match="padded_to=20: the variant 'layoutganpp' looks at no padding"):
        Alignment(padded_to=20)
