"""Which files of a folder or archive are molecules, and that each molecule is read once."""

import bz2
import gzip
import lzma
import tarfile
import zipfile

import numpy as np
import pytest

from graft_lightning.domains.molecules.atoms import padded
from graft_lightning.domains.molecules.dataset import load_files
from graft_lightning.domains.molecules.files import read_entries, read_molecules, source_files
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.reference import MoleculeReference
from graft_lightning.domains.molecules.score import score
from graft_lightning.domains.molecules.sdf import write_sdf
from graft_lightning.domains.molecules.xyz import write_xyz
from graft_lightning.types import SettingsError
from tests.domains.molecules.official_files import tar, zipped

PLAIN = "1\n{}\nH 0 0 0\n"


def names(paths) -> list[str]:
    return [molecule.name for molecule in read_molecules(paths)]


def write_both(folder, molecule):
    """A run's samples: an SD file and an xyz file of each."""
    folder.mkdir()
    for name in ("water", "methane", "ethylene"):
        write_sdf(folder / f"{name}.sdf", [molecule(name)])
        write_xyz(folder / f"{name}.xyz", [molecule(name)])
    return folder


def test_own_samples_count_once(tmp_path, molecule, caplog):
    """From their folder, from lists of files as a shell makes them, and from archives of the folder."""
    folder = write_both(tmp_path / "samples", molecule)
    members = {path.name: path.read_text() for path in sorted(folder.iterdir())}
    sources = [
        folder,
        sorted(folder.iterdir()),
        [folder, folder / "water.xyz"],
        zipped(tmp_path / "samples.zip", members),
        tar(tmp_path / "samples.tar.gz", members),
    ]
    for source in sources:
        caplog.clear()
        found = score(source, with_strain=False)
        assert (found["molecules"], found["uniqueness"], found["molecule_stability"]) == (3, 1.0, 1.0)
        assert "are counted once" in caplog.text
    (water,) = [m for m in read_molecules(folder) if m.name == "water"]
    np.testing.assert_allclose(water.positions, molecule("water").positions, atol=1e-6)  # xyz has more digits
    assert len(load_files(folder, tmp_path / "cache")) == 3


def test_a_run_writes_what_is_read_once(tmp_path, molecule):
    samples = padded([molecule("water"), molecule("methane")])
    MoleculeReference.write(None, samples, ["a", "b"], tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    assert score(tmp_path, with_strain=False)["molecules"] == 2


def test_files_of_one_name_that_differ_are_all_read(tmp_path, molecule, caplog):
    write_xyz(tmp_path / "a.xyz", [molecule("water"), molecule("methane")])
    write_sdf(tmp_path / "a.sdf", [molecule("water")])
    (tmp_path / "sub").mkdir()
    write_xyz(tmp_path / "sub" / "a.xyz", [molecule("water")])
    assert len(names(tmp_path)) == 4
    assert not caplog.text


def test_hidden_ones_and_what_macos_packs_are_passed_by(tmp_path, caplog):
    members = {
        name: PLAIN.format(name)
        for name in ("a.xyz", "._a.xyz", ".git/b.xyz", "__MACOSX/a.xyz", "__MACOSX/._a.xyz", "c/.d.xyz", "c/e.xyz")
    }
    for name, text in members.items():
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "data" / name).write_text(text)
    for source in ("data", zipped(tmp_path / "a.zip", members), tar(tmp_path / "a.tar", members)):
        assert names(tmp_path / source) == ["a.xyz", "c/e.xyz"]
    assert not caplog.text
    assert names(tmp_path / "data" / "c" / ".d.xyz") == ["c/.d.xyz"]  # asked for by name


def test_a_link_to_a_file_is_no_second_sample(tmp_path, molecule, caplog):
    """Such as that to a run's latest sample; nor is a file in a folder that is named, and linked to as well."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_xyz(folder / "m1.xyz", [molecule("water")])
    (folder / "latest.xyz").symlink_to("m1.xyz")
    assert score(folder, with_strain=False)["uniqueness"] == 1
    assert "1 passed over: " in caplog.text
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "first").symlink_to(folder)
    assert len(names([tmp_path / "all", folder])) == 1
    (folder / "other.xyz").symlink_to(tmp_path / "elsewhere.xyz")
    write_xyz(tmp_path / "elsewhere.xyz", [molecule("methane")])
    assert len(names(folder)) == 2


def test_linked_folders_are_read_and_loops_end(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.xyz").write_text(PLAIN.format("a"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "data")
    assert names(tmp_path / "data") == ["a"]
    assert source_files(tmp_path / "data") == [tmp_path / "data" / "link" / "a.xyz"]
    (tmp_path / "real" / "gone.xyz").symlink_to("nowhere.xyz")
    with pytest.raises(FileNotFoundError, match=r"gone\.xyz"):
        names(tmp_path / "data")


def test_what_is_passed_over_is_told(tmp_path, caplog):
    members = {
        "a.xyz": PLAIN.format("a"),
        "b.pdb": "",
        "c.pdb": "",
        "d.cif.gz": "",
        "readme.txt": "3 molecules",
        "e": "",
    }
    said = "passed over 5 files that are no xyz or SD file: 2 .pdb"
    for name, text in members.items():
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text(text)
    for source in ("data", zipped(tmp_path / "a.zip", members), tar(tmp_path / "a.tar", members)):
        caplog.clear()
        assert names(tmp_path / source) == ["a"]
        assert said in caplog.text
        assert "1 .txt" in caplog.text
        assert "1 .cif.gz" in caplog.text
    with pytest.raises(SettingsError, match=r"holds no file of \.xyz.*, but 1 \.pdb"):
        names(tar(tmp_path / "none.tar", {"b.pdb": ""}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_of_a_zip_that_was_replaced_is_read_as_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, text in (("a.xyz", "old"), ("b.xyz", "b"), ("a.xyz", "new")):
            archive.writestr(name, PLAIN.format(text))
    assert names(tmp_path / "a.zip") == ["new", "b"]


def test_links_in_a_zip_are_told(tmp_path, caplog):
    """Their content is the name of another member."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.xyz", PLAIN.format("a"))
        link = zipfile.ZipInfo("b.xyz")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "a.xyz")
    assert len(list(read_entries(tmp_path / "a.zip"))) == 1
    assert "passed over 1 file that is no xyz or SD file: 1 .xyz (link)" in caplog.text


def test_links_in_a_tar_are_told(tmp_path, caplog):
    path = tar(tmp_path / "a.tar", {"a.xyz": PLAIN.format("a")})
    with tarfile.open(path, "a") as archive:
        for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
            link = tarfile.TarInfo("b.xyz")
            link.type, link.linkname = kind, "a.xyz"
            archive.addfile(link)
    assert names(path) == ["a"]
    assert "passed over 2 files" in caplog.text
    assert "2 .xyz (link)" in caplog.text


@pytest.mark.parametrize("pack", [None, (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
@pytest.mark.parametrize("suffix", [".xyz", ".XYZ", ".extxyz", ".txt", ".sdf", ".mol", ".sd"])
def test_kinds(tmp_path, molecule, suffix, pack):
    write = write_sdf if suffix in (".sdf", ".mol", ".sd") else write_xyz
    path = tmp_path / f"m{suffix}"
    write(path, [molecule("water")])
    if pack is not None:
        packed = path.with_name(path.name + pack[0])
        packed.write_bytes(pack[1](path.read_bytes()))
        path.unlink()
        path = packed
    content = path.read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(path.name, content)
    with tarfile.open(tmp_path / "a.tar", "w") as tape:
        tape.add(path, path.name)
    (tmp_path / "folder").mkdir()
    path.rename(tmp_path / "folder" / path.name)
    for source in ("folder", f"folder/{path.name}", "a.zip", "a.tar"):
        (found,) = read_molecules(tmp_path / source)
        assert found.symbols == ("O", "H", "H")


def test_samples_as_edm_writes_them(tmp_path, caplog):
    """xyz without a comment, under .txt, one file a molecule; one of nothing is a sample, and other texts are none."""
    (tmp_path / "molecule_000.txt").write_text("2\n\nH 0.000000000 0.0 0.0\nH 0.740000000 0.0 0.0\n")
    (tmp_path / "molecule_001.txt").write_text("")
    (tmp_path / "notes.txt").write_text("epochs 3000\n")
    (tmp_path / "empty.txt").write_text("\n")
    entries = list(read_entries(tmp_path))
    assert [isinstance(entry, FormatError) for entry in entries] == [False, True]
    assert "passed over 2 files that are no xyz or SD file: 2 .txt" in caplog.text
    with pytest.raises(SettingsError, match=r"notes\.txt is of no readable kind"):
        names(tmp_path / "notes.txt")


def test_tables_beside_files_of_a_folder_are_sources(tmp_path, molecule):
    """What is read decides which stored set is meant."""
    from tests.domains.molecules.official_files import csv_table, sdf_record

    (tmp_path / "gdb.sdf").write_text(sdf_record(molecule("methane"), "gdb_7"))
    (tmp_path / "gdb.sdf.csv").write_text(csv_table([("gdb_7", "C")]))
    assert source_files(tmp_path) == [tmp_path / "gdb.sdf", tmp_path / "gdb.sdf.csv"]
    (found,) = read_molecules(tmp_path)
    assert found.smiles == "C"
