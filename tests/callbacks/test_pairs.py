"""Two rows of samples: which frame and which number each has."""

import pytest
import torch
from PIL import ImageColor

from graft_lightning.callbacks.colours import ACCEPTED, BEFORE, REJECTED
from graft_lightning.callbacks.pairs import Shown, base_and_now
from graft_lightning.callbacks.two_rows import COLUMNS, FRAME, GAP, LETTERS, SIDE, Row, two_rows
from graft_lightning.domains.base import contact_sheet
from graft_lightning.rejection.codec import Codec

pytestmark = pytest.mark.usefixtures("drawn")

IMAGE = torch.zeros(1, 1, 8, 8)


class Sheets(Codec):
    def draw(self, samples, captions=None):
        return contact_sheet(samples, captions)


SHEETS = Sheets()


def frames(sheet, rows=2):
    """The colours of the frames, row by row, read off their left edges."""
    height = (sheet.shape[1] - GAP - LETTERS - 8) // rows  # captions of one line
    middles = [int(row * height + height / 2) for row in range(rows)]
    lefts = range(GAP + FRAME // 2, sheet.shape[2] - SIDE, SIDE + 2 * FRAME + GAP)
    return [[tuple(sheet[:, middle, left].tolist()) for left in lefts] for middle in middles]


def pairs(*scores):
    return [tuple(Shown("a one", IMAGE, values) for values in pair) for pair in scores]


def colours(*rows):
    return [[ImageColor.getrgb(colour) for colour in row] for row in rows]


def test_a_judge_says_what_is_right_of_both():
    sheet = base_and_now(SHEETS, pairs(([0.9, 0], [0.2, 1]), ([0.5, 1], [0.6, 0])), ["Reward", "Judge"], 7)
    assert frames(sheet) == colours([REJECTED, ACCEPTED], [ACCEPTED, REJECTED])


def test_without_a_judge_frames_say_where_the_reward_has_risen():
    found = pairs(([0.2], [0.3]), ([0.3], [0.2]), ([0.25], [0.25]))
    assert frames(base_and_now(SHEETS, found, ["Reward"], 7)) == colours([BEFORE] * 3, [ACCEPTED, REJECTED, BEFORE])


def test_a_score_that_is_no_number_has_not_risen():
    found = pairs(([0.2], [float("nan")]), ([0.2], [0.4]))
    assert frames(base_and_now(SHEETS, found, ["Reward"], 7)) == colours([BEFORE] * 2, [REJECTED, ACCEPTED])


def test_without_any_score_there_are_samples():
    assert frames(base_and_now(SHEETS, pairs(([], []), ([], [])), [], 7)) == colours([BEFORE] * 2, [BEFORE] * 2)


@pytest.mark.parametrize("count", [1, 2, COLUMNS, 40])
def test_a_card_of_five_is_as_wide_as_tensorboards_and_more_are_not_drawn(count):
    row = Row("accepted", [IMAGE] * count, ["0.5"] * count, [ACCEPTED] * count)
    sheet = two_rows(SHEETS, [row, row], ["a nine to the left of a zero"] * count)
    assert sheet.shape[2] == max(2, min(count, COLUMNS)) * (SIDE + 2 * FRAME + GAP) + GAP
    if count >= COLUMNS:
        shown = min(325 / sheet.shape[2], 215 / sheet.shape[1])  # the part of a card that an image is fitted into
        assert LETTERS * shown > 9, "letters cannot be read there"


def test_what_a_codec_does_not_draw_is_no_sheet():
    assert two_rows(Codec(), [Row("base", [IMAGE], ["0.5"], [BEFORE])]) is None
    assert two_rows(SHEETS, []) is None
