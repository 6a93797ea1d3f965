import pytest

from graft_lightning.domains.base.counts import condition_of
from graft_lightning.domains.molecules.conditions import EMBEDDED_HISTOGRAM, AtomCounts, count_of


@pytest.mark.parametrize("text", ["", "12", "n=", "n=0", "n=-3", "n=a #1", "m=12"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="n=<number of atoms>"):
        count_of(text)


@pytest.mark.parametrize("groups", [1, 7, 24, 64])
def test_counts_have_the_proportions_of_the_data(groups):
    texts = AtomCounts(groups).texts()
    assert len(texts) == len(set(texts)) == groups
    total = sum(EMBEDDED_HISTOGRAM.values())
    for count, molecules in EMBEDDED_HISTOGRAM.items():
        assert abs(sum(count_of(text) == count for text in texts) - groups * molecules / total) < 1
    assert AtomCounts(24, limit=1).texts() == ["n=12"]


def test_histograms_are_named_or_given():
    assert AtomCounts(200, "qm9").texts()[0] == "n=19"
    assert AtomCounts(2, {3: 5, 4: 5}).texts() == [condition_of(3), condition_of(4)]
    with pytest.raises(ValueError, match="qm8"):
        AtomCounts(4, "qm8")
