import gzip

import numpy as np
import pytest

from graft_lightning.domains.molecules.files import read_molecules, source_files
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.xyz import write_xyz
from graft_lightning.types import SettingsError
from tests.domains.molecules.official_files import csv_table, qm9_xyz, sdf_record, tar, zipped

PLAIN = "1\n{}\nH 0 0 0\n"


def gdb9_sdf(molecule) -> str:
    return sdf_record(molecule("methane"), "gdb_1") + sdf_record(molecule("water"), "gdb_3")


def names(paths) -> list[str]:
    return [molecule.name for molecule in read_molecules(paths)]


def test_folder_in_natural_order(tmp_path):
    for name in ("10.xyz", "2.xyz", "sub/1.xyz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(PLAIN.format(name))
    (tmp_path / ".hidden.xyz").write_text("junk")
    (tmp_path / "readme.txt").write_text("junk")
    assert names(tmp_path) == ["2.xyz", "10.xyz", "sub/1.xyz"]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
def test_archive(tmp_path, suffix, molecule):
    """QM9 comes as ``dsgdb9nsd.xyz.tar.bz2``, one frame a member."""
    members = {f"dsgdb9nsd_{i:06d}.xyz": qm9_xyz(molecule(name), i) for i, name in ((1, "methane"), (3, "water"))}
    path = tar(tmp_path / f"dsgdb9nsd.xyz{suffix}", {"readme.txt": "junk", **members})
    found = list(read_molecules(path))
    assert [m.name for m in found] == ["gdb_1", "gdb_3"]
    assert found[1].source == f"{path}/dsgdb9nsd_000003.xyz:1"


def test_zip_and_gz(tmp_path, molecule):
    path = zipped(tmp_path / "qm9.zip", {"gdb9.sdf": sdf_record(molecule("water"), "gdb_3"), "gdb9.sdf.csv": "junk"})
    packed = tmp_path / "more.xyz.gz"
    packed.write_bytes(gzip.compress(PLAIN.format("packed").encode()))
    assert names([path, packed]) == ["gdb_3", "packed"]


def test_errors_in_archives_name_member_and_line(tmp_path):
    path = tar(tmp_path / "a.tar", {"m/1.xyz": PLAIN.format("good"), "m/2.xyz": "1\n\nH 0 0\n"})
    with pytest.raises(FormatError, match=r"a\.tar/m/2\.xyz:3: 'H 0 0' should be"):
        names(path)


def test_gdb9_with_its_table(tmp_path, molecule):
    (tmp_path / "gdb9.sdf").write_text(
        sdf_record(molecule("methane"), "gdb_1") + sdf_record(molecule("water"), "gdb_3")
    )
    table = tmp_path / "gdb9.sdf.csv"
    table.write_text(csv_table([("gdb_1", "C"), ("gdb_3", "O")]))
    methane, water = read_molecules(tmp_path / "gdb9.sdf")
    assert (methane.smiles, water.smiles) == ("C", "O")
    assert water.properties["mu"] == 1.5
    assert len(water.properties) == 19
    assert source_files(tmp_path / "gdb9.sdf") == [tmp_path / "gdb9.sdf", table]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (csv_table([("gdb_1", "C"), ("gdb_2", "N")]), r"csv:3: gdb_2 stands where gdb_3 of the sdf should"),
        (csv_table([("gdb_1", "C")]), r"csv:2: the end stands where gdb_3"),
        (csv_table([("gdb_1", "C"), ("gdb_3", "O"), ("gdb_4", "N")]), r"csv:4: gdb_4 has no molecule"),
        (csv_table([("gdb_1", "C"), ("gdb_3", "O")]).replace("0.5,", "x,", 1), r"csv:2: a property should be a number"),
        ("id,name\n1,2\n", r"csv:1: the columns .* should have mol_id and smiles"),
    ],
)
def test_gdb9_with_a_table_that_does_not_fit(tmp_path, molecule, table, problem):
    (tmp_path / "gdb9.sdf").write_text(
        sdf_record(molecule("methane"), "gdb_1") + sdf_record(molecule("water"), "gdb_3")
    )
    (tmp_path / "gdb9.sdf.csv").write_text(table)
    with pytest.raises(FormatError, match=problem):
        names(tmp_path / "gdb9.sdf")


def test_a_table_in_any_encoding_that_says_which_it_is(tmp_path, molecule):
    (tmp_path / "gdb9.sdf").write_text(sdf_record(molecule("water"), "gdb_3"))
    table = tmp_path / "gdb9.sdf.csv"
    for encoding in ("utf-8-sig", "utf-16"):
        table.write_bytes(csv_table([("gdb_3", "O")]).replace("\n", "\r\n").encode(encoding))
        assert [one.smiles for one in read_molecules(tmp_path / "gdb9.sdf")] == ["O"]
    table.write_bytes(csv_table([("gdb_3", "\u00e9")]).encode("latin-1"))
    with pytest.raises(SettingsError, match=r"gdb9\.sdf\.csv, line 2: byte 0xe9 is not UTF-8"):
        names(tmp_path / "gdb9.sdf")


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.xyz does not exist; it should be xyz, sdf"):
        names(tmp_path / "absent.xyz")
    (tmp_path / "molecules.pdb").touch()
    with pytest.raises(ValueError, match=r"molecules\.pdb is of no readable kind; it should be xyz, sdf"):
        names(tmp_path / "molecules.pdb")
    with pytest.raises(ValueError, match=r"holds no file of \.xyz, \.sdf, \.mol"):
        names(tmp_path)
    with pytest.raises(ValueError, match=r"the archive .* holds no file"):
        names(tar(tmp_path / "empty.tar", {"a.txt": ""}))


def test_qm7_as_folder_and_as_archive_are_the_same(test_data, tmp_path):
    archive = test_data / "qm7_xyz" / "qm7_xyz.tar.gz"
    found = list(read_molecules(archive))
    assert len(found) == 7101
    assert {symbol for m in found for symbol in m.symbols} == {"H", "C", "N", "O", "S"}
    assert (len(found[0].symbols), found[0].name) == (5, "charge = 0")
    import tarfile

    with tarfile.open(archive) as tape:
        tape.extractall(tmp_path, members=tape.getmembers()[:20], filter="data")
    for a, b in zip(found[:20], read_molecules(tmp_path), strict=True):
        assert a.symbols == b.symbols
        np.testing.assert_array_equal(a.positions, b.positions)


def test_hundred_molecules_of_qm9_survive_a_round_trip(test_data, tmp_path):
    found = list(read_molecules(test_data / "qm9_sample" / "qm9_sample.xyz"))
    assert len(found) == 100
    assert found[0].name == "gdb9 116432"
    assert not any(m.foreign for m in found)
    write_xyz(tmp_path / "again.xyz", found)
    for a, b in zip(found, read_molecules(tmp_path / "again.xyz"), strict=True):
        assert a.symbols == b.symbols
        np.testing.assert_allclose(a.positions, b.positions, atol=5e-7)
