import math

import pytest
import torch

from graft_lightning.domains.layouts import EmbeddedLayouts
from graft_lightning.domains.layouts.composition import Margins, ReadingOrder, pieces
from graft_lightning.domains.layouts.corrections import corrected
from graft_lightning.domains.layouts.layout import batch
from graft_lightning.domains.layouts.rewards import AlignedShare, GoodAlignment, LittleOverlap, Tidy
from graft_lightning.types import SettingsError

EVERY = [GoodAlignment(), AlignedShare(), LittleOverlap(), Tidy(), Margins(), ReadingOrder()]


def layouts(*pages, labels=None, width=None):
    """Layouts of boxes given by centre and size."""
    width = width or max(len(page) for page in pages)
    box, label = torch.zeros(len(pages), width, 4), torch.zeros(len(pages), width, dtype=torch.int64)
    mask = torch.zeros(len(pages), width, dtype=torch.bool)
    for row, page in enumerate(pages):
        for i, one in enumerate(page):
            box[row, i] = torch.tensor(one)
        mask[row, : len(page)] = True
        if labels is not None:
            label[row, : len(page)] = torch.tensor(labels[row])
    return batch(label, box, mask)


def texts(samples):
    return [f"n={count}" for count in samples["mask"].sum(1).tolist()]


COLUMN = [(0.5, 0.2, 0.8, 0.1), (0.5, 0.5, 0.8, 0.3), (0.5, 0.8, 0.8, 0.2)]
"""Three elements of one column, on common guides."""

STAIRS = [(0.2, 0.1, 0.1, 0.07), (0.33, 0.25, 0.12, 0.09), (0.51, 0.43, 0.14, 0.11)]
"""No guide shared; the nearest are .08 apart by hand: right of the first .25, left of the second .27 do not count."""


def test_alignment_by_hand():
    samples = layouts(COLUMN, STAIRS)
    guides = [[x - w / 2, x, x + w / 2, y - h / 2, y, y + h / 2] for x, y, w, h in STAIRS]
    gaps = [
        min(abs(a - b) for j in range(3) if j != i for a, b in zip(guides[i], guides[j], strict=True)) for i in range(3)
    ]
    expected = math.exp(-100 * sum(-math.log(1 - gap) for gap in gaps) / 3)
    torch.testing.assert_close(
        GoodAlignment()(samples, texts(samples)), torch.tensor([1.0, expected]), atol=1e-5, rtol=0
    )
    shares = [1.0, sum(gap <= 0.125 for gap in gaps) / 3]
    assert AlignedShare(0.125)(samples, texts(samples)).tolist() == pytest.approx(shares)
    assert AlignedShare(0.001)(samples, texts(samples)).tolist() == [1.0, 0.0]


def test_overlap_by_hand():
    half = layouts([(0.25, 0.5, 0.5, 1.0), (0.5, 0.5, 0.5, 1.0)], [(0.25, 0.5, 0.5, 1.0), (0.75, 0.5, 0.5, 1.0)])
    # each of the first page covers half of the other: O = (.5 + .5) / 2
    found = LittleOverlap(scale=2.0)(half, texts(half))
    torch.testing.assert_close(found, torch.tensor([math.exp(-1.0), 1.0]))
    background = LittleOverlap(background=[3])(layouts(*[[(0.5, 0.5, 0.5, 0.5)] * 2], labels=[[0, 3]]), ["n=2"])
    assert background.tolist() == [1.0]


def test_tidy_is_alignment_and_overlap_where_nothing_is_amiss():
    samples = layouts(COLUMN)
    assert Tidy()(samples, ["n=3"]).tolist() == pytest.approx([1.0])
    stairs = layouts(STAIRS)
    found = Tidy(alignment=1.0)(stairs, ["n=3"])
    gaps = -GoodAlignment(1.0)(stairs, ["n=3"]).log()
    assert 0 < float(found) < 1
    assert float(found) == pytest.approx(
        float(torch.exp(-gaps)), abs=0.01
    )  # mean of exp and exp of mean, at small gaps


def test_tidy_cannot_be_gamed():
    """By elements that are few, tiny, identical, or nearly so: what pays under the field's measures does not here."""
    asked = 8
    identical = [(0.5, 0.5, 0.3, 0.3)] * asked
    nearly = [(0.5 + 0.001 * i, 0.5, 0.3, 0.3) for i in range(asked)]
    tiny = [(0.1 + 0.1 * i, 0.5, 0.004, 0.004) for i in range(asked)]
    lines = [(0.5, 0.1 + 0.1 * i, 0.9, 0.001) for i in range(asked)]
    few = COLUMN[:1]
    honest = [(0.25 + 0.5 * (i % 2), 0.1 + 0.2 * (i // 2), 0.4, 0.15) for i in range(asked)]
    samples = layouts(identical, nearly, tiny, lines, few, honest, width=asked)
    tidy = Tidy()(samples, [f"n={asked}"] * 6)
    assert tidy[:5].max() <= 1 / asked + 1e-6
    assert float(tidy[5]) == pytest.approx(1.0)
    assert (
        GoodAlignment()(samples, [f"n={asked}"] * 6)[:5].min() > 0.9
    )  # the very measure that papers print is had for free
    # sharing one label is not needed for the honest page
    other = layouts(honest, labels=[[i % 5 for i in range(asked)]])
    assert float(Tidy()(other, [f"n={asked}"])) == pytest.approx(1.0)


def test_copies_of_an_element_count_once_between_them():
    twice = layouts([COLUMN[0], COLUMN[0], COLUMN[2]])
    # two copies in one place: weights 1/2, 1/2, 1 of three asked for; overlap of each copy is 1, O = 2/3
    assert float(Tidy(overlap=3.0)(twice, ["n=3"])) == pytest.approx(2 / 3 * math.exp(-2.0), rel=1e-5)


def test_tiny_elements_align_nobody():
    page = [(0.3, 0.3, 0.2, 0.2), (0.3, 0.7, 0.004, 0.004)]
    samples = layouts(page, [page[0], (0.3, 0.7, 0.1, 0.1)])
    found = Tidy(alignment=50.0)(samples, ["n=2"] * 2)
    assert found.tolist() == pytest.approx([0.5, 1.0])


def test_the_number_asked_for_decides_and_not_the_number_there():
    samples = layouts(COLUMN)
    assert Tidy()(samples, ["n=6"]).tolist() == pytest.approx([0.5])
    assert Tidy()(samples, [""]).tolist() == pytest.approx([1.0])
    assert Tidy()(samples, ["n=3 #1 | text ? ? 0.8 0.1"]).tolist() == pytest.approx([1.0])


@pytest.mark.parametrize("reward", EVERY, ids=lambda reward: type(reward).__name__)
def test_order_and_padding_change_nothing(reward):
    pages = EmbeddedLayouts(count=40, part="all").layouts
    plain, wide = pages.read(range(40)), pages.read(range(40), pages.width + 5)
    found = reward(plain, texts(plain))
    torch.testing.assert_close(reward(wide, texts(wide)), found)
    permuted = plain.clone()
    for row, count in enumerate(plain["mask"].sum(1).tolist()):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(row))
        for name in ("box", "label"):
            permuted[name][row, :count] = plain[name][row, order]
    torch.testing.assert_close(reward(permuted, texts(plain)), found)
    assert ((found >= 0) & (found <= 1)).all()
    assert found.std() > 0
    parts = torch.cat([reward(plain[i : i + 7], texts(plain)[i : i + 7]) for i in range(0, 40, 7)])
    torch.testing.assert_close(parts, found)


@pytest.mark.parametrize("reward", EVERY, ids=lambda reward: type(reward).__name__)
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_cannot_be_judged_is_nan_and_spoils_nobody_else(reward, broken):
    samples = layouts(COLUMN, [(0.5, broken, 0.1, 0.1), (0.2, 0.2, 0.1, 0.1)], [])
    found = reward(samples, ["n=3", "n=2", "n=1"])
    assert found.isnan().tolist() == [False, True, True]


def test_every_reward_prefers_pages_to_noise():
    pages = EmbeddedLayouts(count=300, misaligned=0.0, part="all").layouts.read(range(300))
    generator = torch.Generator().manual_seed(0)
    size = torch.rand(pages["box"].shape, generator=generator)[..., 2:] * 0.5
    centre = size / 2 + torch.rand(size.shape, generator=generator) * (1 - size)
    noise = batch(pages["label"], torch.cat([centre, size], -1) * pages["mask"][..., None], pages["mask"])
    many = pages["mask"].sum(1) >= 4
    for reward in EVERY:
        real, random = (reward(samples[many], texts(samples[many])) for samples in (pages, noise))
        assert real.mean() > random.mean() + 0.1, type(reward).__name__


def test_misaligned_pages_earn_less():
    straight, crooked = (
        EmbeddedLayouts(count=300, misaligned=share, part="all").layouts.read(range(300)) for share in (0.0, 1.0)
    )
    for reward in (GoodAlignment(), AlignedShare(), Tidy()):
        assert reward(straight, texts(straight)).mean() > reward(crooked, texts(crooked)).mean() + 0.1


def test_margins_by_hand():
    even = [(0.5, 0.5, 0.8, 0.8)]
    uneven = [(0.55, 0.5, 0.7, 0.8)]  # margins .2 and .1
    bleeding = [(0.5, 0.5, 0.8, 0.8), (0.5, 0.01, 0.8, 0.02)]
    samples = layouts(even, uneven, bleeding)
    expected = [1.0, math.exp(-0.1 / 0.05), 0.5]
    assert Margins()(samples, texts(samples)).tolist() == pytest.approx(expected, rel=1e-4)


def test_a_page_is_read_column_by_column_below_its_title():
    title, left, right, below = (
        (0.5, 0.1, 0.9, 0.1),
        (0.25, 0.5, 0.4, 0.6),
        (0.75, 0.4, 0.4, 0.4),
        (0.75, 0.8, 0.4, 0.1),
    )
    samples = layouts([below, right, left, title])
    ltrb = torch.cat(
        [
            samples["box"][0, :, :2] - samples["box"][0, :, 2:] / 2,
            samples["box"][0, :, :2] + samples["box"][0, :, 2:] / 2,
        ],
        1,
    )
    assert pieces(ltrb.numpy()) == [[3], [2], [1], [0]]
    assert ReadingOrder()(samples, ["n=4"]).tolist() == [1.0]


def test_what_interlocks_has_no_certain_order():
    pinwheel = [(0.3, 0.1, 0.6, 0.2), (0.9, 0.3, 0.2, 0.6), (0.7, 0.9, 0.6, 0.2), (0.1, 0.7, 0.2, 0.6)]
    overlapping = [(0.5, 0.3, 0.8, 0.4), (0.5, 0.5, 0.8, 0.4), (0.5, 0.9, 0.8, 0.1)]
    samples = layouts(pinwheel, overlapping)
    assert ReadingOrder()(samples, ["n=4", "n=3"]).tolist() == pytest.approx([1 / 4, 2 / 3])
    assert ReadingOrder(tolerance=0.21)(samples, ["n=4", "n=3"]).tolist()[1] == 1.0


def test_corrected_elements_are_those_that_have_come_onto_a_guide():
    before = layouts([(0.3, 0.2, 0.2, 0.1), (0.31, 0.5, 0.23, 0.13), (0.7, 0.8, 0.17, 0.1)])
    after = layouts([(0.3, 0.2, 0.2, 0.1), (0.3, 0.5, 0.2, 0.13), (0.7, 0.8, 0.17, 0.1)])
    assert corrected(before, after)[0].tolist() == [True, True, False]
    assert not corrected(after, before).any()
    assert not corrected(after, after).any()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: GoodAlignment(0.0), "scale=0.0"),
        (lambda: AlignedShare(-1.0), "tolerance=-1.0"),
        (lambda: LittleOverlap(math.nan), "scale=nan"),
        (lambda: Tidy(alike=1.0), "alike=1.0"),
        (lambda: Tidy(least=0.0), "least=0.0"),
        (lambda: Tidy(alignment=-1.0), "alignment=-1.0"),
        (lambda: Margins(least=0.5), "least=0.5"),
        (lambda: ReadingOrder(-0.1), "tolerance=-0.1"),
    ],
)
def test_settings_that_cannot_be_are_named(make, named):
    with pytest.raises(SettingsError, match=named):
        make()
