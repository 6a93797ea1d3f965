import numpy as np
import pytest
import torch

from graft_lightning.domains.base.elements import Elements, Field
from graft_lightning.domains.base.masks import centred, mask_of

BOXES = Elements(
    {"box": Field("float32", (4,)), "label": Field("int64", stored="uint8"), "fixed": Field("bool")}, "layout", "boxes"
)


def layout(count: int, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return {"box": rng.random((count, 4)), "label": rng.integers(0, 25, count), "fixed": rng.random(count) < 0.5}


def test_a_padded_batch():
    samples = [layout(3, 1), layout(0, 2), layout(2, 3)]
    batch = BOXES.padded(samples, width=4)
    assert batch["mask"].tolist() == [[True] * 3 + [False], [False] * 4, [True, True, False, False]]
    assert {name: values.dtype for name, values in batch.items()} == {
        "box": torch.float32,
        "label": torch.int64,
        "fixed": torch.bool,
        "mask": torch.bool,
    }
    for row, sample in enumerate(samples):
        for name, values in sample.items():
            count = len(values)
            expected = torch.as_tensor(values).to(batch[name].dtype)
            assert torch.equal(batch[name][row, :count], expected)
            assert not batch[name][row, count:].any()
    assert BOXES.padded(samples)["box"].shape == (3, 3, 4)
    assert BOXES.padded([], width=2)["box"].shape == (0, 2, 4)


def test_unpadded_is_the_inverse():
    batch = BOXES.padded([layout(3, 1), layout(0), layout(2, 3)], width=5)
    again = BOXES.padded(BOXES.unpadded(batch), width=5)
    assert again.keys() == batch.keys()
    assert all(torch.equal(again[name], batch[name]) for name in batch)


def test_a_sample_that_is_too_large_is_refused():
    with pytest.raises(ValueError, match="a layout has 3 boxes, more than the width of 2"):
        BOXES.padded([layout(1), layout(3)], width=2)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"label": [1, 2]}, r"layout 1 has as many boxes as its fields are long, but these differ: .*'label': 2"),
        ({"label": [1, 2, 256]}, r"layout 1: label holds numbers that uint8 does not: \[256\]"),
        ({"label": [1, -1, 2]}, r"uint8 does not: \[-1\]"),
        ({"label": [1, 0.5, np.nan]}, r"uint8 does not: \[0\.5 +nan\]"),
        ({"box": np.zeros((3, 5))}, r"layout 1: box is \(3, 5\); it should be \(boxes, \(4,\)\)"),
        ({"box": 1.0}, r"box is \(\)"),
        ({"colour": [1, 2, 3]}, r"layout 1 has the fields .*'colour'.*; it should have \['box', 'fixed', 'label'\]"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        BOXES.padded([layout(3), layout(3) | change])


def test_masks_have_the_counts_asked_for():
    assert mask_of(torch.tensor([2, 0, 3]), 3).tolist() == [[True, True, False], [False] * 3, [True] * 3]


def test_centring_divides_by_the_elements_that_are_there():
    values = torch.tensor([[[1.0, 4.0], [3.0, 8.0], [100.0, 100.0]], [[5.0, 5.0]] * 3])
    mask = torch.tensor([[True, True, False], [False] * 3])
    got = centred(values, mask)
    assert got[0].tolist() == [[-1, -2], [1, 2], [0, 0]]
    assert not got[1].any()
