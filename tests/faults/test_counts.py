"""The guide speaks of every kind of fault, and a whole session holds its numbers against what was seen."""

from collections import Counter

from tests.faults import counting


def test_the_guide_speaks_of_every_kind():
    assert counting.told().keys() == set(counting.KINDS)


def test_other_numbers_are_found_out(monkeypatch):
    said = counting.told()
    seen = {kind: Counter(a=number - 1, b=1) for kind, number in said.items()}
    monkeypatch.setattr(counting, "COUNTS", seen)
    assert counting.untrue() == []
    seen["full disks"]["a"] += 1
    (line,) = counting.untrue()
    assert f"speaks of {said['full disks']} full disks, and there were {said['full disks'] + 1}" in line
    del seen["kill points"]  # not everything was tried
    assert counting.untrue() == []
