import numpy as np
import pytest
import torch

from graft_lightning.domains.layouts.inspection import Inspection
from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.domains.layouts.preprocessing import PREPROCESSINGS, TEST_SIZES, VALID_SIZE, preprocessing, split
from graft_lightning.domains.layouts.rico import read_text
from graft_lightning.domains.layouts.vocabularies import RICO25
from graft_lightning.types import SettingsError


def test_bins_round_edges_down_and_thin_elements_vanish():
    kept = preprocessing("layoutdiffusion")
    boxes = np.array([[0.5, 0.5, 0.5, 0.25], [0.5, 0.5, 0.0001, 0.5], [0.5, 0.5, 1.0, 1.0]])
    found = kept.apply(Layout(np.array([0, 1, 2]), boxes))
    assert found.labels.tolist() == [0, 2]
    assert found.filtered
    low, high = found.boxes[:, :2] - found.boxes[:, 2:] / 2, found.boxes[:, :2] + found.boxes[:, 2:] / 2
    assert (low * 127) == pytest.approx(np.array([[31, 47], [0, 0]]))  # .25 * 127 = 31.75, .375 * 127 = 47.6
    assert (high * 127) == pytest.approx(np.array([[95, 79], [127, 127]]))
    assert kept.apply(Layout(np.array([1]), boxes[1:2])) is None
    assert preprocessing("layoutdm").apply(found) is found


def test_what_is_in_bins_stays_where_it_is():
    lines = [f"Text {k} {k // 2} {k + 1} 127" for k in range(127)]
    pages = list(read_text(lines, "x", Inspection(RICO25)))
    for page in pages:
        again = preprocessing("layoutdiffusion").apply(page)
        assert again.boxes == pytest.approx(page.boxes, abs=1e-12)


def test_limits_by_name():
    assert [(kept.max_elements, kept.portrait, kept.bins) for kept in PREPROCESSINGS.values()] == [
        (None, False, None),
        (25, True, None),
        (20, False, 128),
    ]
    assert preprocessing("layoutdm", 9).max_elements == 9
    with pytest.raises(SettingsError, match="preprocessing='x'"):
        preprocessing("x")


def test_splits_are_torchs_permutation_of_seed_0():
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).tolist()
    found = split(1000, "publaynet")
    assert [found[part].tolist() for part in ("train", "valid", "test")] == [order[:950], order[950:], []]
    found = split(1000, "rico25")
    assert [found[part].tolist() for part in ("train", "valid", "test")] == [order[:850], order[850:900], order[900:]]


def test_parts_of_rico_have_the_published_sizes():
    sizes = {part: len(members) for part, members in split(37_290, "rico25").items()}
    assert abs(sizes["test"] - TEST_SIZES["rico25"]) <= 1
    assert abs(sizes["valid"] - VALID_SIZE) <= 1
