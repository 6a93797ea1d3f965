import numpy as np
import pytest

from graft_lightning.domains.base.counts import Counts, condition_of, count_of, histogram, shared_out


def test_groups_of_the_same_count_are_conditions_of_their_own():
    assert condition_of(12) == "n=12"
    assert condition_of(12, 3) == "n=12 #3"
    assert {count_of(condition_of(n, g)) for n in (7, 12) for g in (0, 5)} == {7, 12}


@pytest.mark.parametrize("text", ["", "12", "n=", "n=0", "n=-3", "n=a #1", "m=12", "n=1.5", "n=3#1"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="should be n=<number of boxes>, such as n=18"):
        count_of(text, "boxes")


def test_quotas_by_largest_remainders():
    assert shared_out({1: 6, 2: 3, 3: 1}, 10) == {1: 6, 2: 3, 3: 1}
    assert shared_out({1: 50, 2: 30, 3: 20}, 4) == {1: 2, 2: 1, 3: 1}
    assert shared_out({1: 1, 2: 1000}, 3) == {2: 3}


@pytest.mark.parametrize("groups", [1, 2, 7, 24, 250])
def test_the_proportions_are_those_of_the_data(groups):
    data = {3: 2, 4: 6, 5: 9, 7: 79, 9: 509, 12: 1564}
    counts = Counts(data, groups)
    texts = counts.texts()
    assert len(texts) == len(set(texts)) == groups
    for count, samples in data.items():
        assert abs(sum(count_of(text) == count for text in texts) - groups * samples / sum(data.values())) < 1
    assert Counts(data, groups, limit=2).texts() == texts[:2]


def test_the_most_frequent_number_comes_first():
    assert Counts({3: 1, 9: 2, 12: 3}, 6).texts() == ["n=12", "n=12 #1", "n=12 #2", "n=9", "n=9 #1", "n=3"]


def test_histogram():
    assert list(histogram(np.array([5, 3, 5, 5])).items()) == [(3, 1), (5, 3)]


@pytest.mark.parametrize(
    ("data", "groups", "problem"),
    [
        ({3: 1}, 0, "groups=0"),
        ({}, 4, "histogram={}"),
        ({3: 0}, 4, "maps numbers"),
        ({0: 3}, 4, "from 1"),
        ({3: -1, 4: 2}, 4, "-1"),
    ],
)
def test_arguments_out_of_range(data, groups, problem):
    with pytest.raises(ValueError, match=problem):
        Counts(data, groups)
