import time

import pytest
import torch
from torch.utils.data import DataLoader

from graft_lightning.domains.digits.data import THIRDS, DigitPairs, crops, digits, place
from graft_lightning.domains.digits.prompts import BOTTOM, LEFT, RIGHT, TOP, layouts


def test_the_thirds_never_meet_and_are_stratified() -> None:
    parts = [digits(third) for third in THIRDS]
    everything = torch.cat([images for images, _ in parts]).flatten(1)
    assert everything.shape == (1797, 64)
    assert len(everything.unique(dim=0)) == 1797  # no digit occurs twice, so disjoint rows are disjoint digits
    assert (everything.min(), everything.max()) == (0, 1)
    counts = torch.stack([labels.bincount(minlength=10) for _, labels in parts])
    assert (counts.max(dim=0).values - counts.min(dim=0).values).max() <= 1
    assert counts.sum(dim=1).max() - counts.sum(dim=1).min() <= 3
    with pytest.raises(ValueError, match="'test' is unknown"):
        digits("test")


def test_crops_undo_placing() -> None:
    images = torch.rand(6, 2, 8, 8)
    side_by_side = crops(place(images, torch.tensor([[LEFT, RIGHT]]).expand(6, 2)))
    upright = crops(place(images, torch.tensor([[TOP, BOTTOM]]).expand(6, 2)))
    assert torch.equal(side_by_side[:, [LEFT, RIGHT]], images)
    assert torch.equal(upright[:, [TOP, BOTTOM]], images)
    assert torch.equal(
        upright[:, LEFT, :4, 4:], images[:, 0, 4:, :4]
    )  # the left slot sees the upper digit's lower corner
    with pytest.raises(ValueError, match=r"\(1, 3, 16, 16\)"):
        crops(torch.zeros(1, 3, 16, 16))


def test_a_correct_caption_names_the_digits_that_are_there() -> None:
    images, labels = digits("reference")
    canvases, captions = DigitPairs(1000, seed=3, wrong_captions=0.0).batch(torch.arange(200))
    pieces = crops((canvases + 1) / 2).flatten(2)
    for row, caption in enumerate(captions):
        matches = []
        for layout in layouts(caption):
            distances = [(images.flatten(1) - pieces[row, slot]).abs().amax(dim=1) for slot, _ in layout]
            seen = [labels[distance < 1e-6].tolist() for distance in distances]
            matches.append(seen == [[digit] for _, digit in layout])
        assert any(matches), caption


def test_the_stated_share_of_captions_is_wrong() -> None:
    indices = torch.arange(4000)
    images, clean = DigitPairs(4000, wrong_captions=0.0).batch(indices)
    same, noisy = DigitPairs(4000, wrong_captions=0.4).batch(indices)
    assert torch.equal(images, same)
    changed = sum(layouts(a) != layouts(b) for a, b in zip(clean, noisy, strict=True)) / 4000
    assert changed == pytest.approx(0.4 * (1 - 1 / 200), abs=0.03)  # four standard errors
    _, wrong = DigitPairs(4000, wrong_captions=1.0).batch(indices)
    # What is said says nothing about what is there: equal arrangements are a coin's throw.
    vertical = [["above" in text or "below" in text for text in texts] for texts in (clean, wrong)]
    assert sum(a == b for a, b in zip(*vertical, strict=True)) / 4000 == pytest.approx(0.51, abs=0.04)


def test_a_picture_depends_on_seed_and_index_alone() -> None:
    pairs = DigitPairs(100, seed=5)
    images, captions = pairs.batch(torch.arange(100))
    alone, caption = pairs[42]
    assert torch.equal(alone, images[42])
    assert caption == captions[42]
    assert not torch.equal(DigitPairs(100, seed=6)[42][0], alone)
    loaded = next(iter(DataLoader(pairs, batch_size=100)))
    assert torch.equal(loaded[0], images)
    assert list(loaded[1]) == captions
    assert len(images.flatten(1).unique(dim=0)) == 100
    with pytest.raises(IndexError, match="100"):
        pairs[100]


def test_digits_and_arrangements_are_drawn_evenly() -> None:
    _, captions = DigitPairs(20_000, wrong_captions=0.0).batch(torch.arange(20_000))
    found = [layouts(caption) for caption in captions]
    relations = [layout[0] for layout in found if len(layout) == 1]
    assert len(relations) / 20_000 == pytest.approx(0.9, abs=0.01)
    assert sum(layout[0][0] == LEFT for layout in relations) / len(relations) == pytest.approx(0.5, abs=0.02)
    first = torch.tensor([layout[0][1] for layout in relations]).bincount(minlength=10) / len(relations)
    assert torch.allclose(first, torch.full((10,), 0.1), atol=0.012)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "length is 0"),
        ({"length": 1, "wrong_captions": 1.5}, "1.5"),
        ({"length": 1, "third": "all"}, "'all'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DigitPairs(**arguments)


def test_a_batch_takes_much_less_than_a_millisecond_a_picture() -> None:
    pairs = DigitPairs(10_000)
    pairs.batch(torch.arange(2))
    start = time.process_time()
    pairs.batch(torch.arange(1000))
    assert time.process_time() - start < 0.2
