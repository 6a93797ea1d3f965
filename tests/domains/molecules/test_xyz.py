import numpy as np
import pytest

from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.xyz import QM9_PROPERTIES, read_xyz, write_xyz
from tests.domains.molecules.official_files import qm9_xyz

WATER = "3\nwater, relaxed\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"


def read(text: str):
    return list(read_xyz(text.splitlines(keepends=True), "some.xyz"))


def test_plain():
    (water,) = read(WATER)
    assert water.symbols == ("O", "H", "H")
    np.testing.assert_array_equal(water.positions, [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    assert (water.name, water.smiles, water.properties) == ("water, relaxed", "", {})
    assert water.source == "some.xyz:1"


def test_many_frames_with_blank_lines_and_no_last_newline():
    first, second, third = read(WATER + "\n\n" + WATER + "1\n\nF 1 2 3")
    assert (first.source, second.source, third.source) == ("some.xyz:1", "some.xyz:8", "some.xyz:13")
    assert second.symbols == ("O", "H", "H")
    assert third.name == ""


def test_further_columns_atomic_numbers_capitals_and_windows_line_ends():
    (found,) = read("3\r\ncharge = 0\r\n 8 0 0 0 0.1 x\r\n h 1 0 0\r\nCL 0 1 0\r\n")
    assert found.symbols == ("O", "H", "Cl")
    assert found.foreign == {"Cl"}
    assert found.name == "charge = 0"


def test_original_file_of_qm9(molecule):
    text = qm9_xyz(molecule("methane"), 1, "C") + qm9_xyz(molecule("water"), 133885, "O")
    methane, water = read(text)
    assert methane.name == "gdb_1"
    assert water.name == "gdb_133885"
    np.testing.assert_allclose(methane.positions, molecule("methane").positions, atol=1e-9)
    assert methane.smiles == "C"
    assert methane.properties == dict(zip(QM9_PROPERTIES, range(1, 16), strict=True))
    assert water.source == "some.xyz:11"


def test_fortran_exponents():
    (found,) = read("1\n\nH 1.5*^-6 -2*^2 0.25\n")
    np.testing.assert_array_equal(found.positions, [[1.5e-6, -200, 0.25]])


def test_a_comment_that_only_resembles_qm9():
    (found,) = read("1\ngdb9 116432\nH 0 0 0\n")
    assert found.name == "gdb9 116432"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("two\n", 1, "'two' should be the number of atoms"),
        ("0\n\n", 1, "'0' should be the number of atoms, an integer of at least 1"),
        (WATER + "-1\n", 6, "'-1' should be the number of atoms"),
        ("3\n", 1, "the file ends inside the frame that starts here; it should have the comment line"),
        ("3\nwater\nO 0 0 0\nH 1 0 0\n", 1, "it should have 3 atoms, of which 2 are there"),
        ("2\n\nO 0 0 0\nH 1 0\n", 4, "'H 1 0' should be an element and three coordinates"),
        ("2\n\nO 0 0 0\nQq 1 0 0\n", 4, "'Qq' should be an element's symbol or atomic number"),
        ("2\n\nO 0 0 0\n119 1 0 0\n", 4, "'119' should be an element's symbol or atomic number"),
        ("1\n\nO 0 0 zero\n", 3, "the coordinate 'zero' should be a number"),
        ("1\n\nO 0 nan 0\n", 3, "the coordinate 'nan' should be finite"),
        # one atom too many is seen where the next frame should start
        ("1\n\nO 0 0 0\nH 1 0 0\n", 4, "'H 1 0 0' should be the number of atoms"),
        ("1\ngdb 7 1.0 2.0\nO 0 0 0\n", 2, "15 properties after 'gdb 7', not 2"),
    ],
)
def test_malformed(text, line, problem):
    with pytest.raises(FormatError) as caught:
        read(text)
    assert str(caught.value).startswith(f"some.xyz:{line}: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("drop", "line", "problem"),
    [
        (2, 1, "its SMILES"),
        (1, 1, "its InChI"),
    ],
)
def test_qm9_frame_cut_short(molecule, drop, line, problem):
    lines = qm9_xyz(molecule("water"), 3).splitlines(keepends=True)
    with pytest.raises(FormatError, match=f"some.xyz:{line}: .*{problem}"):
        read("".join(lines[:-drop]))


def test_qm9_frame_with_a_line_missing_inside(molecule):
    """Without its line of frequencies the SMILES would be read as numbers."""
    lines = qm9_xyz(molecule("water"), 3).splitlines(keepends=True)
    with pytest.raises(FormatError, match=r"some.xyz:6: the frequency 'C' should be a number"):
        read("".join(lines[:5] + lines[6:]))


def test_round_trip(tmp_path, molecule):
    molecules = [molecule("methane"), molecule("formaldehyde")]
    path = tmp_path / "out.xyz"
    write_xyz(path, molecules)
    with path.open() as file:
        again = list(read_xyz(file, path))
    for before, after in zip(molecules, again, strict=True):
        assert (after.symbols, after.name) == (before.symbols, before.name)
        np.testing.assert_allclose(after.positions, before.positions, atol=5e-7)
