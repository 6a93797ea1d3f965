import numpy as np
import pytest

from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.qm9 import (
    ATOM_COUNTS,
    MOLECULES,
    TRAIN,
    UNCHARACTERIZED,
    edm_split,
    identifier,
    read_exclusions,
)
from tests.domains.molecules import official_files


def test_exclusions(tmp_path):
    path = tmp_path / "uncharacterized.txt"
    path.write_text(official_files.UNCHARACTERIZED)
    assert read_exclusions(path) == {21, 58, 133885}
    path.write_text("7 C\n21 N\n", encoding="utf-8-sig")  # a mark before the first number hides none
    assert read_exclusions(path) == {7, 21}


def test_exclusions_of_another_number_are_told(tmp_path, caplog):
    """A list that was cut short leaves molecules in, and nothing else would tell."""
    path = tmp_path / "uncharacterized.txt"
    path.write_text("".join(f"{i} C\n" for i in range(1, UNCHARACTERIZED + 1)))
    assert len(read_exclusions(path)) == UNCHARACTERIZED
    assert not caplog.text
    path.write_text("".join(f"{i} C\n" for i in range(1, UNCHARACTERIZED)))
    assert len(read_exclusions(path)) == UNCHARACTERIZED - 1
    assert "lists 3053 molecules; QM9's own list has 3054" in caplog.text


@pytest.mark.parametrize(
    ("text", "problem"),
    [("nothing here\n", ":1: no line begins with a number"), ("7 C\n\n133886 C\n", ":3: the identifier 133886")],
)
def test_exclusions_malformed(tmp_path, text, problem):
    path = tmp_path / "uncharacterized.txt"
    path.write_text(text)
    with pytest.raises(FormatError, match=problem):
        read_exclusions(path)


def test_exclusions_absent(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"get it from https://springernature\.figshare\.com"):
        read_exclusions(tmp_path / "uncharacterized.txt")


def test_identifier():
    assert identifier(Molecule(("H",), np.zeros((1, 3)), name="gdb_42")) == 42
    with pytest.raises(ValueError, match=r"some\.xyz:1: the name 'charge = 0' should be gdb_<number>"):
        identifier(Molecule(("H",), np.zeros((1, 3)), name="charge = 0", source="some.xyz:1"))


def test_split_of_qm9():
    """Sizes and order of EDM's split, from the statement that it is NumPy's seed 0."""
    split = edm_split(MOLECULES - UNCHARACTERIZED)
    assert {name: len(part) for name, part in split.items()} == {"train": 100_000, "valid": 17_748, "test": 13_083}
    np.random.seed(0)  # noqa: NPY002 (that is the split)
    permutation = np.random.permutation(130_831)  # noqa: NPY002
    np.testing.assert_array_equal(np.concatenate(list(split.values())), permutation)
    assert split["train"][:5].tolist() == [130195, 68784, 7957, 25911, 20168]


@pytest.mark.parametrize("count", [0, 1, 5, 100, 6803])
def test_split_of_other_sets(count):
    split = edm_split(count)
    assert sorted(np.concatenate(list(split.values())).tolist()) == list(range(count))
    assert len(split["test"]) == count // 10


def test_split_that_does_not_fit():
    with pytest.raises(ValueError, match="train=95 and a test part of 10 do not fit into 100"):
        edm_split(100, train=95)


def test_atom_counts_add_up():
    """To the molecules of the training part, and to its H, C, N, O and F atoms as published."""
    assert sum(ATOM_COUNTS.values()) == TRAIN
    assert sum(n * count for n, count in ATOM_COUNTS.items()) == 923_537 + 635_559 + 101_476 + 140_202 + 2_323
    assert (min(ATOM_COUNTS), max(ATOM_COUNTS)) == (3, 29)
