"""Lines of text below samples: none wider than its place, and nothing lost without three dots."""

import pytest
from PIL import Image, ImageDraw

from graft_lightning.lettering import LINE, SMALL, font_of, wrapped

TEXT = "a one to the right of an eight"


@pytest.mark.parametrize("width", [30, 60, 100, 1000])
def test_no_line_is_wider_than_its_place_and_nothing_is_lost(width):
    lines = wrapped(TEXT, width, font_of())
    assert all(font_of().getlength(line) <= width for line in lines)
    assert " ".join(lines) == TEXT
    assert len(lines) == 1 or width < 1000


def test_a_word_that_is_wider_than_its_place_is_broken():
    lines = wrapped("of C1CC2CCC1CC2CCCCCCOCCCN and more", 60, font_of())
    assert all(font_of().getlength(line) <= 60 for line in lines)
    assert "".join(lines).replace(" ", "") == "ofC1CC2CCC1CC2CCCCCCOCCCNandmore"


def test_what_is_left_out_is_said():
    lines = wrapped(TEXT, 60, font_of(), most=2)
    assert len(lines) == 2
    assert lines[1].endswith(" ...")
    assert wrapped(TEXT, 1000, font_of(), most=2) == [TEXT]


def test_no_text_is_one_empty_line():
    assert wrapped("", 60, font_of()) == [""]


def test_a_line_has_room_for_its_letters_and_words_stand_apart():
    box = font_of().getbbox("Äg|")
    assert box[3] <= LINE
    assert font_of().getlength(" ") >= SMALL / 4
    image = Image.new("L", (40, LINE))
    ImageDraw.Draw(image).text((0, 0), "a a", fill=255, font=font_of())
    columns = [max(image.crop((x, 0, x + 1, LINE)).getdata()) > 60 for x in range(image.width)]
    first, last = columns.index(True), len(columns) - 1 - columns[::-1].index(True)
    gap = max(len(run) for run in "".join(".x"[inked] for inked in columns[first:last]).split("x"))
    assert gap >= 3
