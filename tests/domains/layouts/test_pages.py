import numpy as np
import pytest
import torch

from graft_lightning.domains.layouts.conditions import HISTOGRAMS
from graft_lightning.domains.layouts.embedded import load_embedded
from graft_lightning.domains.layouts.examples import EmbeddedLayouts
from graft_lightning.domains.layouts.layout import padded
from graft_lightning.domains.layouts.metrics.geometry import alignment, gaps, overlap
from graft_lightning.domains.layouts.pages import FIGURE, TABLE, TEXT, TITLE, Pages
from graft_lightning.types import SettingsError


def test_a_page_is_the_same_however_many_are_drawn():
    one, many = Pages(seed=3).page(5), list(Pages(seed=3).pages(8))[5]
    assert np.array_equal(one.boxes, many.boxes)
    assert np.array_equal(one.labels, many.labels)
    assert not np.array_equal(Pages(seed=4).page(5).boxes, one.boxes)


def test_straight_pages_do_not_overlap_and_all_but_titles_are_aligned():
    straight = padded(list(Pages(misaligned=0.0).pages(300)))
    assert overlap(straight).max() < 1e-6
    off = gaps(straight["box"].double(), straight["mask"]) > 1e-6
    assert set(straight["label"][off].tolist()) <= {TITLE}  # one that is centred above columns has no partner
    assert off.any(1).double().mean() < 0.2


def test_misalignment_is_as_large_as_asked_for():
    means = [
        float(alignment(padded(list(Pages(misaligned=1.0, jitter=jitter).pages(300)))).mean())
        for jitter in (0.0, 0.003, 0.01, 0.03)
    ]
    assert means == sorted(means)
    assert means[0] < 0.001
    assert means[2] > 3 * means[0]
    straight, moved = (list(Pages(misaligned=m, jitter=0.002).pages(200)) for m in (0.0, 1.0))
    differences = [_edges(b) - _edges(a) for a, b in zip(straight, moved, strict=True)]
    assert np.concatenate(differences).std() == pytest.approx(0.002, rel=0.05)
    half = list(Pages(misaligned=0.5, jitter=0.002).pages(200))
    share = np.mean([not np.array_equal(a.boxes, b.boxes) for a, b in zip(straight, half, strict=True)])
    assert share == pytest.approx(0.5, abs=0.12)


def _edges(page):
    return np.concatenate([page.boxes[:, :2] - page.boxes[:, 2:] / 2, page.boxes[:, :2] + page.boxes[:, 2:] / 2], 1)


def test_boxes_lie_on_the_page_even_when_they_are_thrown_about():
    boxes = np.concatenate([page.boxes for page in Pages(misaligned=1.0, jitter=0.1).pages(300)])
    assert (boxes[:, 2:] > 0).all()
    assert (boxes[:, :2] - boxes[:, 2:] / 2 >= -1e-12).all()
    assert (boxes[:, :2] + boxes[:, 2:] / 2 <= 1 + 1e-12).all()


def test_figures_and_tables_have_captions():
    for page in Pages(misaligned=0.0).pages(200):
        tops = page.boxes[:, 1] - page.boxes[:, 3] / 2
        feet = page.boxes[:, 1] + page.boxes[:, 3] / 2
        for k in np.flatnonzero(np.isin(page.labels, (FIGURE, TABLE))):
            caption = k + 1 if page.labels[k] == FIGURE else k - 1
            assert page.labels[caption] == TEXT
            assert page.boxes[caption, [0, 2]] == pytest.approx(page.boxes[k, [0, 2]])
            gap = tops[caption] - feet[k] if caption > k else tops[k] - feet[caption]
            assert 0.013 < gap < 0.021


def test_every_label_occurs_and_no_page_has_more_than_asked_for():
    pages = list(Pages(max_elements=9).pages(300))
    assert {int(label) for page in pages for label in page.labels} == {TEXT, TITLE, 2, TABLE, FIGURE}
    assert 1 <= min(map(len, pages)) <= max(map(len, pages)) == 9


def test_the_embedded_set_and_its_histogram(tmp_path):
    whole = load_embedded(count=2000, cache=tmp_path, progress=False)
    assert (len(whole), whole.vocabulary.name) == (2000, "publaynet")
    stated = np.array([HISTOGRAMS["embedded"][n] for n in range(1, 17)])
    found = np.array([whole.histogram().get(n, 0) for n in range(1, 17)])
    assert np.abs(found / found.sum() - stated / stated.sum()).sum() < 0.08
    one = Pages().page(17)
    assert torch.equal(whole[17]["box"], torch.tensor(one.boxes, dtype=torch.float32))


def test_parts_share_no_page(tmp_path):
    parts = [EmbeddedLayouts(count=200, cache=str(tmp_path), part=part) for part in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [180, 10, 10]
    members = [index for part in parts for index in part.layouts.indices.tolist()]
    assert sorted(members) == list(range(200))
    found, conditions = parts[0].batch([0, 1, 2], seed=0)
    again, _ = parts[0].batch([2], seed=0)
    assert torch.equal(found["label"][2:], again["label"])
    assert conditions == [f"n={n}" for n in found["mask"].sum(1).tolist()]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"max_elements": 0}, "max_elements=0"),
        ({"misaligned": 1.5}, "misaligned=1.5"),
        ({"jitter": -0.1}, "jitter=-0.1"),
        ({"jitter": float("nan")}, "jitter=nan"),
    ],
)
def test_arguments_out_of_range(arguments, problem):
    with pytest.raises(SettingsError, match=problem):
        Pages(**arguments)
    with pytest.raises(SettingsError, match=problem):
        EmbeddedLayouts(**arguments)
    with pytest.raises(SettingsError, match="part='tes'"):
        EmbeddedLayouts(part="tes")
