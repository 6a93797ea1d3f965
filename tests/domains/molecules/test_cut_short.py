"""Archives and compressed files that were cut short, anywhere: refused by name, never read as fewer molecules."""

import bz2
import gzip
import json
import lzma
import zipfile

import pytest

from graft_lightning.cli.main import main
from graft_lightning.domains.molecules import qm9
from graft_lightning.domains.molecules.files import read_molecules
from graft_lightning.types import SettingsError
from tests.domains.molecules.official_files import qm9_xyz, sdf_record, tar, zipped

WATER = "3\nw{}\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
MEMBERS = {f"m/{i}.xyz": WATER.format(i) for i in range(4)}
COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def count(path):
    return sum(1 for _ in read_molecules(path))


def every_cut(path, cuts=None):
    """The file, complete, is read; its beginnings are refused, and named: all of them, or of long files every 7th."""
    content = path.read_bytes()
    assert count(path) == 4
    size = len(content)
    for cut in cuts or sorted({*range(0, size, 1 if size < 500 else 7), *range(max(0, size - 50), size)}):
        path.write_bytes(content[:cut])
        with pytest.raises(SettingsError, match=path.name.replace(".", r"\.")):
            count(path)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
def test_compressed_tar(tmp_path, suffix):
    every_cut(tar(tmp_path / f"some{suffix}", MEMBERS))


def test_tar(tmp_path):
    """Every 64th byte, and those beside the borders of blocks, among them all between members.

    Two blocks after the last member nothing is missing but padding, which many writers leave out.
    """
    path = tar(tmp_path / "some.tar", MEMBERS)
    size = path.stat().st_size
    borders = {border + by for border in range(0, size, 512) for by in (-1, 0, 1)}
    every_cut(path, sorted({cut for cut in borders | set(range(0, size, 64)) if 0 <= cut < size} - {4 * 1024 + 1024}))


def test_zip(tmp_path):
    every_cut(zipped(tmp_path / "some.zip", MEMBERS))


def test_zip_that_holds_a_zip_and_has_a_comment(tmp_path):
    """Cut behind the inner archive, that one is complete; cut in the comment, all members are."""
    inner = zipped(tmp_path / "inner.zip", {"one.xyz": WATER.format(0)}).read_bytes()
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        for name, text in MEMBERS.items():
            archive.writestr(name, text)
        archive.writestr("inner.zip", inner)
        archive.comment = b"made by hand"
    every_cut(tmp_path / "outer.zip")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_file(tmp_path, suffix):
    path = tmp_path / f"some.xyz{suffix}"
    path.write_bytes(COMPRESS[suffix]("".join(MEMBERS.values()).encode()))
    every_cut(path)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_streams_that_follow_each_other(tmp_path, suffix):
    """As parallel programs write them; zeros may lie between, and nothing else."""
    path = tmp_path / f"some.xyz{suffix}"
    first, second = (COMPRESS[suffix]((WATER * 2).encode()) for _ in range(2))
    for between in (b"", b"\0" * 512):
        path.write_bytes(first + between + second + between)
        assert count(path) == 4
    path.write_bytes(first + second)
    every_cut(path, sorted(set(range(len(first) + len(second))) - {len(first)}))
    for joined in (first + b"x" + second, first + second + b"else", first + second[:1] + b"x" + second[2:]):
        path.write_bytes(joined)
        with pytest.raises(SettingsError, match=r"some\.xyz.* was cut short, is damaged or locked"):
            count(path)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_member_of_a_complete_archive(tmp_path, suffix):
    packed = COMPRESS[suffix](WATER.encode())
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"whole.xyz{suffix}", packed)
        archive.writestr(f"cut.xyz{suffix}", packed[:-3])
    with pytest.raises(SettingsError, match=rf"some\.zip/cut\.xyz\{suffix} was cut short"):
        count(path)


def test_a_tar_without_padding_is_complete(tmp_path):
    """Many writers end with two blocks of zeros and no more; with one, something is missing."""
    path = tar(tmp_path / "some.tar", MEMBERS)
    content = path.read_bytes().rstrip(b"\0")
    content += b"\0" * (-len(content) % 512)
    path.write_bytes(content + b"\0" * 1024)
    assert count(path) == 4
    path.write_bytes(content + b"\0" * 512)
    with pytest.raises(SettingsError, match="the archive has no end"):
        count(path)


def test_damaged_and_joined_tars_are_refused(tmp_path):
    """A header that is damaged, and an archive behind the end of the first, end the list of members without a word."""
    path = tar(tmp_path / "some.tar", MEMBERS)
    content = path.read_bytes()
    path.write_bytes(content[:1024] + b"x" * 512 + content[1536:])
    with pytest.raises(SettingsError, match=r"some\.tar .*at byte 1024 neither"):
        count(path)
    path.write_bytes(content + content)
    with pytest.raises(SettingsError, match=r"some\.tar .*neither a member nor the end"):
        count(path)


@pytest.mark.parametrize("name", ["some.tar.gz", "some.xyz.gz", "some.zip", "some.tar.bz2"])
def test_on_the_command_line(tmp_path, capsys, name):
    path = tmp_path / name
    if "xyz" in name:
        path.write_bytes(gzip.compress(WATER.encode()))
    else:
        (zipped if name.endswith("zip") else tar)(path, MEMBERS)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(SystemExit, match="2"):
        main(["score", "molecules", str(path), "--no-strain"])
    said = capsys.readouterr()
    assert not said.out
    assert name in said.err
    assert "Traceback" not in said.err


def test_qm9_that_ends_early(tmp_path, molecule, monkeypatch, caplog):
    """Complete as an archive, and yet the first molecules only: refused under QM9's names, told of others."""
    members = {f"dsgdb9nsd_{i:06d}.xyz": qm9_xyz(molecule("methane"), i) for i in range(1, 5)}
    for name in ("dsgdb9nsd.xyz.tar.bz2", "dsgdb9nsd.zip"):
        path = (zipped if name.endswith("zip") else tar)(tmp_path / name, members)
        with pytest.raises(SettingsError, match=r"dsgdb9nsd\..* the first 4 molecules of QM9, which has 133,885"):
            count(path)
    records = "".join(sdf_record(molecule("water"), f"gdb_{i}") for i in range(1, 5))
    (tmp_path / "gdb9.sdf").write_text(records)
    with pytest.raises(SettingsError, match=r"gdb9\.sdf holds the first 4"):
        count(tmp_path / "gdb9.sdf")
    assert "QM9" not in caplog.text
    assert count(tar(tmp_path / "part.tar", members)) == 4
    assert "part.tar holds the first 4 molecules of QM9" in caplog.text
    monkeypatch.setattr(qm9, "MOLECULES", 4)
    assert count(tmp_path / "dsgdb9nsd.xyz.tar.bz2") == count(tmp_path / "gdb9.sdf") == 4


def test_one_file_of_qm9_is_no_cut(tmp_path, molecule, caplog):
    (tmp_path / "dsgdb9nsd_000001.xyz").write_text(qm9_xyz(molecule("methane"), 1))
    assert count(tmp_path / "dsgdb9nsd_000001.xyz") == 1
    assert not caplog.text


def test_complete_files_score(tmp_path, capsys):
    main(["score", "molecules", str(tar(tmp_path / "some.tar.bz2", MEMBERS)), "--no-strain"])
    assert json.loads(capsys.readouterr().out)["molecule_stability"] == 1
