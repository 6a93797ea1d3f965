import math

import pytest

from graft_lightning.domains.layouts.conditions import count_of
from graft_lightning.domains.layouts.partial import Known, read, shortened, written
from graft_lightning.domains.layouts.vocabularies import PUBLAYNET, RICO25
from graft_lightning.types import SettingsError

NAN = math.nan


def same(one: Known, other: Known) -> bool:
    boxes = all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one.box, other.box, strict=True))
    return one.label == other.label and one.rough == other.rough and boxes


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("n=4", []),
        ("n=4 #2", []),
        ("n=3 | title | text", [Known(1), Known(0)]),
        ("n=2 | ? 0.5 ? 0.1 ?", [Known(None, (0.5, NAN, 0.1, NAN))]),
        ("n=2 | ? | figure 0 0.25 1 0.5", [Known(), Known(4, (0.0, 0.25, 1.0, 0.5))]),
        ("n=1 | text ~0.5 0.5 ~0.1 ?", [Known(0, (0.5, 0.5, 0.1, NAN), (True, False, True, False))]),
    ],
)
def test_a_condition_is_read_as_it_is_written(text, known):
    count, found = read(text, PUBLAYNET)
    assert count == int(text[2])
    assert [same(a, b) for a, b in zip(found, known, strict=True)] == [True] * len(known)
    head = text.partition(" | ")[0].partition(" #")[0]
    assert written(count, known, PUBLAYNET).partition(" | ")[0] == head
    again = read(written(count, known, PUBLAYNET), PUBLAYNET)[1]
    assert [same(a, b) for a, b in zip(again, known, strict=True)] == [True] * len(known)


def test_labels_of_several_words_are_one_word():
    text = written(2, [Known(RICO25.index("On/Off Switch")), Known(RICO25.index("List Item"))], RICO25)
    assert text == "n=2 | On/Off_Switch | List_Item"
    assert [one.label for one in read(text, RICO25)[1]] == [17, 3]


def test_free_elements_at_the_end_are_not_written():
    assert written(3, [Known(), Known(1), Known()], PUBLAYNET) == "n=3 | ? | title"
    assert written(3, [Known()] * 3, PUBLAYNET) == "n=3"


def test_captions_are_short():
    assert shortened("n=4") == "n=4"
    assert shortened("n=4 #1 (0.98)") == "n=4 #1 (0.98)"
    assert shortened("n=4 | title | ? | text 0.1 0.2 0.3 0.4 (0.98)") == "n=4, 2 known (0.98)"
    assert shortened("n=4 | title | ? (-0.5)") == "n=4, 1 known (-0.5)"
    assert shortened("base: n=2 | ~ | title") == "base: n=2, 2 known"


def test_every_condition_says_how_many_elements_it_asks_for():
    assert count_of("n=12 | title | text ? ? 0.1 0.1") == 12
    assert count_of("n=12 #3 | title") == 12


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "''"),
        ("title", "'title'"),
        ("n=1 | title | text", "tells of 2"),
        ("n=1 | heading", "'heading'"),
        ("n=1 | title 0.5", "'title 0.5'"),
        ("n=1 | title 0.5 0.5 0.1 wide", "'wide'"),
        ("n=1 | title 0.5 0.5 0.1 1.5", "'1.5'"),
        ("n=1 | title 0.5 0.5 -0.1 0.5", "'-0.1'"),
        ("n=1 | title nan 0.5 0.1 0.5", "'nan'"),
        ("n=1 | title ~? 0.5 0.1 0.5", "'~?'"),
        ("n=1 | ", "''"),
    ],
)
def test_what_is_not_understood_is_named(text, named):
    with pytest.raises(ValueError, match="condition") as error:
        read(text, PUBLAYNET)
    assert named in str(error.value)
    assert isinstance(error.value, SettingsError) or "n=<number" in str(error.value)
