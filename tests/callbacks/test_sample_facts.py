import math

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.callbacks.sample_facts import (
    SKETCH,
    Facts,
    change,
    diversity,
    duplicate_share,
    facts_of,
    sharpness,
    sketch,
)
from graft_lightning.domains.base.diversity import mean_pairwise_distance
from graft_lightning.domains.digits import DigitReference
from tests.fakes import GaussianReference


def images(count, seed=0):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


IMAGES = DigitReference()
POINTS = GaussianReference()


def rows(samples, conditions, codec=IMAGES):
    return facts_of(codec, samples, conditions, list(range(len(conditions))))


def test_one_colour_is_blank_and_two_are_not():
    samples = images(5)
    samples[0] = 0.0
    samples[1] = torch.tensor([0.9, 0.1, 0.4])[:, None, None]  # every channel constant
    samples[2, 0, 3, 3] = torch.nan
    samples[3] = 0.0
    samples[3, 1, :, :8] = 1.0
    assert [row.blank for row in rows(samples, list("abcde"))] == [True, True, True, False, False]


def test_only_pictures_can_be_of_one_colour():
    points = torch.tensor([[1.0, 1.0], [torch.inf, 0.0]])
    assert [row.blank for row in rows(points, ["a", "b"], POINTS)] == [False, True]


def test_only_pictures_are_sharp_and_those_of_one_colour_are_left_out():
    samples = images(3)
    samples[1] = 0.5
    found = rows(samples, list("abc"))
    assert math.isnan(found[1].sharpness)
    assert sharpness(found) == pytest.approx((found[0].sharpness + found[2].sharpness) / 2)
    assert sharpness(found[1:2]) is None
    assert sharpness(rows(torch.rand(3, 2), list("abc"), POINTS)) is None


def test_sketches_keep_distances_and_small_samples():
    small = torch.randn(4, 2)
    assert torch.equal(sketch(small), small)
    large = torch.randn(30, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert sketch(large).shape == (30, SKETCH)
    exact, kept = mean_pairwise_distance(large), mean_pairwise_distance(sketch(large))
    assert float(kept) == pytest.approx(float(exact), rel=0.03)
    assert torch.equal(sketch(large)[3:4], sketch(large[3:4]))


def test_diversity_by_hand():
    samples = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0], [1.0, 2.0], [9.0, 9.0]])
    found = rows(samples, ["a", "a", "b", "b", "alone"], POINTS)
    assert diversity(found) == pytest.approx((5.0 + 2.0) / 2)
    assert diversity(found[4:]) is None


def test_repetitions_by_content_whatever_their_condition():
    samples = images(6)
    samples[3] = samples[0]
    samples[5] = samples[0] + 1e-4
    assert duplicate_share(rows(samples, list("abcdef"))) == pytest.approx(2 / 6)
    assert duplicate_share(rows(images(6), ["a"] * 6)) == 0


def test_points_repeat_only_what_is_equal():
    """A thousand draws of N(0, I) in the plane have neighbours within 1 % of their size by the dozen, and no copies."""
    points = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    assert duplicate_share(rows(points, ["a"] * 1000, POINTS)) == 0
    points[500:] = points[:500]
    assert duplicate_share(rows(points, ["a"] * 1000, POINTS)) == 0.5


def test_states_of_several_fields_are_compared_by_all_of_them():
    """By hand: distance 5 from the numbers, 1 from the class; diversity, repetition and what is not finite."""
    samples = {"x": torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]), "c": torch.tensor([[0], [0], [1]])}
    found = rows(samples, ["a"] * 3, POINTS)
    assert diversity(found) == pytest.approx((5 + 1 + 26**0.5) / 3)
    assert duplicate_share(found) == 0
    samples["c"][2] = 0
    assert duplicate_share(rows(samples, ["a"] * 3, POINTS)) == pytest.approx(1 / 3)
    samples["x"][1, 1] = torch.nan
    assert [row.blank for row in rows(samples, ["a"] * 3, POINTS)] == [False, True, False]


def layouts(padding):
    """Three layouts of two boxes at most, whatever lies in the padding of the second and third."""
    boxes = torch.tensor([[[0.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    classes = torch.tensor([[1, 1], [1, 0], [1, 0]])
    mask = torch.tensor([[True, True], [True, False], [True, False]])
    boxes[1:, 1] = padding[:, None]
    classes[1:, 1] = padding.nan_to_num().long()
    return {"boxes": boxes, "classes": classes, "mask": mask}


@pytest.mark.parametrize("padding", [[0.0, 0.0], [5.0, -7.0], [torch.nan, torch.inf]])
@pytest.mark.parametrize("wrap", [dict, lambda samples: TensorDict(samples, batch_size=3)], ids=["dict", "TensorDict"])
def test_padding_does_not_count(padding, wrap):
    """The last two are the same; of the first, 3, 4, the second class and the second element are more: sqrt(27)."""
    samples = wrap(layouts(torch.tensor(padding)))
    found = rows(samples, ["a"] * 3, POINTS)
    assert not any(row.blank for row in found)
    assert duplicate_share(found) == pytest.approx(1 / 3)
    assert diversity(found) == pytest.approx(2 * 27**0.5 / 3)
    assert change(POINTS, samples, wrap(layouts(torch.zeros(2)))) == 0


def test_what_is_real_counts_and_a_sample_without_any_element_shows_nothing():
    samples = layouts(torch.zeros(2))
    samples["boxes"][0, 1, 0] = torch.nan
    samples["mask"][2] = False
    assert [row.blank for row in rows(samples, ["a"] * 3, POINTS)] == [True, False, True]


def test_fields_of_the_whole_sample_are_never_padding():
    """One number a sample, and three of another length than the mask."""
    samples = {
        "mask": torch.tensor([[True, False], [True, False]]),
        "size": torch.tensor([1.0, 5.0]),
        "colour": torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]),
    }
    assert diversity(rows(samples, ["a"] * 2, POINTS)) == pytest.approx(5.0)


def test_a_common_background_is_no_repetition():
    samples = torch.ones(8, 3, 64, 64)
    for i in range(8):
        samples[i, :, 8 * i : 8 * i + 2, :2] = 0.0  # four pixels each: 0.2 % of the length of an all-white image
    assert duplicate_share(rows(samples, ["a"] * 8)) == 0


def test_keys_go_before_content():
    found = [Facts("a", i, False, key, 1.0, torch.zeros(2)) for i, key in enumerate([5, 5, 7, 9, -1, -1])]
    assert duplicate_share(found) == pytest.approx(1 / 4)


def test_change_is_relative_to_the_base():
    base = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    assert change(POINTS, base, base) == 0
    assert change(POINTS, base * 1.1, base) == pytest.approx(0.1)
    assert change(POINTS, base[:1], base) is None
    mixed = TensorDict({"x": base, "c": torch.tensor([[0, 1], [1, 0]])}, batch_size=2)
    other = mixed.clone()
    assert change(POINTS, mixed, other) == 0
    other["c"] = torch.tensor([[0, 1], [1, 1]])
    assert change(POINTS, other, mixed) > 0.1
    assert change(POINTS, "text", "text") is None
