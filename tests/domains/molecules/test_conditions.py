import pytest

from graft_lightning.domains.molecules.conditions import (
    EMBEDDED_HISTOGRAM,
    AtomCounts,
    condition_of,
    count_of,
    shared_out,
)


def test_groups_of_the_same_count_are_conditions_of_their_own():
    assert condition_of(12) == "n=12"
    assert condition_of(12, 3) == "n=12 #3"
    assert {count_of(condition_of(n, g)) for n in (7, 12) for g in (0, 5)} == {7, 12}


@pytest.mark.parametrize("text", ["12", "n=", "n=0", "n=-3", "n=a #1", "m=12"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="n=<number of atoms>"):
        count_of(text)


def test_quotas_by_largest_remainders():
    assert shared_out({1: 6, 2: 3, 3: 1}, 10) == {1: 6, 2: 3, 3: 1}
    assert shared_out({1: 50, 2: 30, 3: 20}, 4) == {1: 2, 2: 1, 3: 1}
    assert shared_out({1: 1, 2: 1000}, 3) == {2: 3}


@pytest.mark.parametrize("groups", [1, 7, 24, 64])
def test_counts_have_the_proportions_of_the_data(groups):
    texts = AtomCounts(groups).texts()
    assert len(texts) == len(set(texts)) == groups
    total = sum(EMBEDDED_HISTOGRAM.values())
    for count, molecules in EMBEDDED_HISTOGRAM.items():
        assert abs(sum(count_of(text) == count for text in texts) - groups * molecules / total) < 1
    assert AtomCounts(24, limit=1).texts() == ["n=12"]


def test_histograms_are_known_by_name():
    assert AtomCounts(200, "qm9").texts()[0] == "n=19"
    with pytest.raises(ValueError, match="qm8"):
        AtomCounts(4, "qm8")
