"""The same water, as programs and people write it: every dialect gives the same atoms at the same places."""

import codecs

import numpy as np
import pytest

from graft_lightning.domains.molecules.columns import columns_of
from graft_lightning.domains.molecules.files import read_entries, read_molecules
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.periodic_table import symbol_of
from graft_lightning.domains.molecules.sdf import read_sdf, sdf_records
from graft_lightning.domains.molecules.text import number
from graft_lightning.domains.molecules.xyz import read_xyz, xyz_frames
from tests.domains.molecules.official_files import qm9_xyz, sdf_record, sdf_record_v3000

POSITIONS = [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]
PLAIN = "3\n{}\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
BOHR = 0.529177210903


def check_water(molecule):
    assert molecule.symbols == ("O", "H", "H")
    np.testing.assert_allclose(molecule.positions, POSITIONS, atol=1e-9)


def xyz(text):
    return list(read_xyz(text.splitlines(), "some.xyz"))


def frame(comment, rows):
    return "\n".join(["3", comment, *rows])


EXTENDED = {
    "as ASE writes it": (
        'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1 pbc="F F F"',
        ["O 0 0 0 7 7 7", "H 0.96 0 0 7 7 7", "H -0.24 0.93 0 7 7 7"],
    ),
    "position first": (
        "Properties=pos:R:3:species:S:1",
        ["0 0 0 O", "0.96 0 0 H", "-0.24 0.93 0 H"],
    ),
    "others first": (
        "Properties=id:I:1:forces:R:3:species:S:1:tags:I:2:pos:R:3:Z:I:1",
        ["1 7 7 7 O 0 0 0 0 0 8", "2 7 7 7 H 0 0 0.96 0 0 1", "3 7 7 7 H 0 0 -0.24 0.93 0 1"],
    ),
    "atomic numbers only": (
        "energy=3 properties=Z:I:1:mass:R:1:POS:R:3",
        ["8 16 0 0 0", "1 1 0.96 0 0", "1 1 -0.24 0.93 0"],
    ),
    "number before symbol": (
        'Properties="Z:I:1:species:S:1:pos:R:3"',
        ["8 O 0 0 0", "1 H 0.96 0 0", "1 H -0.24 0.93 0"],
    ),
}


@pytest.mark.parametrize("name", EXTENDED)
def test_columns_of_extended_xyz(name):
    (water,) = xyz(frame(*EXTENDED[name]))
    check_water(water)


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("Properties=species:S:1:forces:R:3", "should name species:S:1"),
        ("Properties=pos:R:3:forces:R:3", "should name species:S:1"),
        ("Properties=species:S:1:pos:R:2", "should name species:S:1"),
        ("Properties=species:S:1:pos", "should be name:type:count"),
        ("Properties=species:S:x:pos:R:3", "should be name:type:count"),
        ("units=furlong", "the unit 'furlong' should be one of angstrom, bohr, nm, pm"),
    ],
)
def test_columns_that_cannot_be(comment, said):
    with pytest.raises(FormatError, match=rf"some\.xyz:2: .*{said}"):
        xyz(frame(comment, ["O 0 0 0", "H 1 0 0", "H 0 1 0"]))


def test_a_row_shorter_than_its_columns():
    with pytest.raises(FormatError, match=r"some\.xyz:3: 'O 0 0 0' should be 7 columns"):
        xyz(frame("Properties=forces:R:3:species:S:1:pos:R:3", ["O 0 0 0"]))


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("units=bohr", BOHR),
        ('Units="Bohr"', BOHR),
        ("pos_unit = nm", 10),
        ("length_unit=pm", 0.01),
        ("units: bohr", BOHR),
        ("water, Unit : Bohr, energy unit: a.u.", BOHR),
        ("Energy units: hartree. Length units: (bohr).", BOHR),
        ("coord_units:a.u.", BOHR),
    ],
)
def test_units_in_the_comment(key, unit, caplog):
    x, y = 0.96 / unit, 0.93 / unit
    (water,) = xyz(frame(f'Lattice="9 0 0 0 9 0 0 0 9" {key}', ["O 0 0 0", f"H {x} 0 0", f"H {-x / 4} {y} 0"]))
    check_water(water)
    assert not caplog.messages


@pytest.mark.parametrize(
    "comment", ["coordinates in bohr", "Coordinates (Bohr)", "unit is bohr", "energy_unit=eV; bohr"]
)
def test_a_comment_that_speaks_of_bohr_and_is_not_understood_is_told_once_a_file(comment, caplog):
    comments = ["water", comment, "units: angstrom, once in bohr", "forces in hartree/bohr", comment]
    for water in xyz("".join(map(PLAIN.format, comments))):
        check_water(water)
    (told,) = caplog.messages
    assert "some.xyz: 2 x a comment speaks of bohr, and its coordinates are taken for angstroms" in told
    assert "the first is line 7; write units=bohr" in told


def test_units_of_other_things_and_plain_comments():
    for comment in (
        "energy_unit=eV energy=-3",
        "E=-40 units=Hartree",
        "a comment, with = signs; E= -1.2",
        "x=y",
        "bohr in a sentence",
        "energy units: a.u., units: see the paper",
    ):
        assert columns_of(comment) == columns_of("")


def test_psi4_has_its_unit_beside_the_number():
    x, y = 0.96 / BOHR, 0.93 / BOHR
    (water,) = xyz(f"3 au\n0 1\nO 0 0 0\nH {x} 0 0\nH {-x / 4} {y} 0\n")
    check_water(water)


def test_lattice_vectors_after_the_atoms():
    first, second = xyz((PLAIN.format("ams") + "VEC1 9 0 0\nVEC2 0 9 0\nVEC3 0 0 9\n\n") * 2)
    check_water(first)
    check_water(second)


ENCODINGS = {
    "plain": lambda text: text.encode(),
    "byte order mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 BE": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "UTF-16 of Windows": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "DOS": lambda text: text.replace("\n", "\r\n").encode() + b"\x1a",
    "Mac of old": lambda text: text.replace("\n", "\r").encode(),
    "Latin-1": lambda text: text.replace("w", "\u00e9").encode("latin-1"),
    "tabs": lambda text: text.replace(" ", "\t").encode(),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_encodings_and_line_ends(tmp_path, name, molecule):
    (tmp_path / "a.xyz").write_bytes(ENCODINGS[name](PLAIN.format("w") * 2))
    found = list(read_molecules(tmp_path / "a.xyz"))
    assert len(found) == 2
    for water in found:
        check_water(water)
    if name not in ("tabs", "Latin-1"):
        for kind, record in (("b.sdf", sdf_record), ("c.mol", sdf_record_v3000)):
            (tmp_path / kind).write_bytes(ENCODINGS[name](record(molecule("water"), "w")))
            (water,) = read_molecules(tmp_path / kind)
            check_water(water)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1", 1), ("-.5", -0.5), ("2.", 2), ("1e3", 1000), ("1D-3", 0.001), ("-1.5d+02", -150), ("1.5*^-6", 1.5e-6),
        ("2Q1", 20), ("1.0-100", 1e-100), ("1.5+3", 1500),
    ],
)  # fmt: skip
def test_numbers(word, value):
    assert number(word) == value


@pytest.mark.parametrize("word", ["1_0", "1e", "d5", "0x1", "1.2.3", "1,5", "", "\u0661"])
def test_no_numbers(word):
    with pytest.raises(ValueError, match="is no number"):
        number(word)


@pytest.mark.parametrize(
    ("word", "symbol"),
    [
        ("c", "C"), ("CL", "Cl"), ("6", "C"), ("6.0", "C"), ("6.", "C"), ("D", "H"), ("t", "H"), ("2H", "H"),
        ("13C", "C"), ("O-", "O"), ("N+", "N"), ("O1-", "O"), ("N+1", "N"), ("C12", "C"), ("Cl-", "Cl"), ("N_3", "N"),
        ("H(iso=2)", "H"), ("6.5", None), ("0", None), ("0.0", None), ("119", None), ("Xx", None), ("CH", None),
        ("M", None), ("-", None), ("C1H", "C"),
    ],
)  # fmt: skip
def test_elements(word, symbol):
    assert symbol_of(word) == symbol


def test_a_file_with_all_of_it():
    (water,) = xyz("3\n\n8.0 0.D0 0d0 0\nD 9.6D-1 0 0\n1H+ -2.4*^-1 93.0-2 0\n")
    check_water(water)


def test_cleaned_frames_of_qm9(molecule):
    """Many take away the last three lines, and the asterisks; the comment stays, or is another."""
    lines = qm9_xyz(molecule("water"), 3, "O").replace("*^", "e").splitlines()
    for kept in (lines[:-3], [lines[0], "", *lines[2:]], [*lines[:-3], ""]):
        found = xyz("\n".join(kept + lines + kept))
        assert len(found) == 3
        for one in found:
            check_water(one)
    assert [one.name for one in xyz("\n".join(lines[:-3] * 2))] == ["gdb_3", "gdb_3"]
    (renamed,) = xyz("\n".join([lines[0], "mine", *lines[2:]]))
    assert (renamed.name, renamed.smiles) == ("mine", "O")


def test_v3000_lines_that_go_on():
    text = """w


  0  0  0     0  0            999 V3000
M  V30 BEGIN CTAB
M  V30 COUNTS 3 0 0 -
M  V30 0 0
M  V30 BEGIN ATOM
M  V30 1 O 0 0 -
M  V30 0 0
M  V30 2 D 0.-
M  V30 96 0 0 0 CHG=1 -
M  V30 RAD=1
M  V30 3 H -0.24 0.93 0 0
M  V30 END ATOM
M  V30 END CTAB
M  END
"""
    (water,) = read_sdf(text.splitlines(), "a.sdf")
    check_water(water)
    fewer = text.replace("M  V30 3 H -0.24 0.93 0 0\n", "")
    with pytest.raises(FormatError, match="3 atoms are announced, 2 lines follow"):
        list(read_sdf(fewer.splitlines(), "a.sdf"))


def test_sdf_beyond_its_columns(molecule):
    loose = "w\n\n\n3 0 0 V2000\n0.0 0.0 0.0 O 0\n0.96 0 0 H 0\n-2.4D-1 0.93 0 D 0\nM  END\n"
    (water,) = read_sdf(loose.splitlines(), "a.sdf")
    check_water(water)


def test_sdf_cut_short_behind_its_atoms(molecule):
    record = sdf_record(molecule("water"), "w").replace("M  END\n$$$$\n", "")
    with pytest.raises(FormatError, match=r"a\.sdf:1: the record that starts here is cut short"):
        list(read_sdf(record.splitlines(), "a.sdf"))


def test_sdf_that_holds_more_than_it_says(molecule):
    """Records without a line between them, as joined mol files, and an atom beyond those that are announced."""
    for record in (sdf_record(molecule("water"), "w"), sdf_record_v3000(molecule("water"), "w")):
        bare = record.replace("$$$$\n", "")
        for text in (bare * 2, bare + ">  <energy>\n1.0\n\n" + record):
            with pytest.raises(FormatError, match=r"a\.sdf:1: .* holds 2 molecules; a line '\$\$\$\$' should stand"):
                list(read_sdf(text.splitlines(), "a.sdf"))
    lines = sdf_record(molecule("water"), "w").splitlines()
    lines[3] = "  2" + lines[3][3:]
    with pytest.raises(FormatError, match=r"a\.sdf:7: .* is an atom beyond the 2 that are announced"):
        list(read_sdf(lines, "a.sdf"))
    lines[3:7] = ["  2  1" + lines[3][6:], *lines[4:6], "  1  2  1  0"]
    assert [len(one.symbols) for one in read_sdf(lines, "a.sdf")] == [2]


GOOD = "1\ngood\nH 0 0 0\n"


@pytest.mark.parametrize(
    ("bad", "atoms"),
    [
        ("2\nb\nO 0 0 0\nH 0 x 0\n", 2),
        ("2\nb\nO 0 0 0\nH 0 nan 0\n", 2),
        ("2\nb\nO 0 0 0\nQq 0 0 0\n", 2),
        ("2\nb\nO 0 0 0\nH 0 0\n", 0),
        ("3\nb\nO 0 0 0\nH 0 0 1\n", 0),  # announces one more than there is; the next frame is not eaten
        ("1\nb\nO 0 0 0\nH 0 0 1\n", 0),  # one less: one molecule all the same
        ("two\nb\nO 0 0 0\nH 0 0 1\n", 0),
        ("0\n\n", 0),
        ("1\nProperties=pos\nO 0 0 0\n", 0),
        ("1\ngdb 7 1.0 2.0\nO 0 0 0\n", 1),
    ],
)
def test_one_bad_frame_is_one_entry(bad, atoms):
    """Between good ones, and at the end of the file."""
    kinds = [type(entry).__name__ for entry in xyz_frames((GOOD + bad + GOOD).splitlines(), "a")]
    assert kinds == ["Molecule", "FormatError", "Molecule"]
    first, last = xyz_frames((GOOD + bad).splitlines(), "a")
    assert first.name == "good"
    assert last.atoms == atoms


def test_one_bad_record_is_one_entry(molecule):
    good = sdf_record(molecule("water"), "good")
    for bad in (
        good.replace(" O ", " Q "),
        good.replace("V2000", "V3000"),
        "x\n$$$$\n",
        good.replace("0.9600", "   nan"),
    ):
        entries = list(sdf_records((good + bad + good).splitlines(), "a"))
        assert [isinstance(entry, FormatError) for entry in entries] == [False, True, False]


def test_an_empty_file_is_an_entry(tmp_path):
    for name in ("a.xyz", "b.sdf", "c.mol"):
        (tmp_path / name).write_text("\n")
    entries = list(read_entries(tmp_path))
    assert [str(entry).partition(": ")[0] for entry in entries] == [
        f"{tmp_path}/{n}:1" for n in ("a.xyz", "b.sdf", "c.mol")
    ]
    with pytest.raises(FormatError, match=r"a\.xyz:1: the file is empty"):
        list(read_molecules(tmp_path))


def test_a_file_that_is_no_text_has_a_short_message(tmp_path):
    (tmp_path / "a.xyz").write_bytes(bytes(range(128, 256)) * 100)
    with pytest.raises(FormatError, match=r"a\.xyz:1: .* should be the number of atoms") as caught:
        list(read_molecules(tmp_path / "a.xyz"))
    assert len(str(caught.value)) < 400
