"""Folders with a list of checksums, which other programs check too."""

import shutil
import subprocess

import pytest

from graft_lightning.domains.base.sums import SUMS, check_sums, write_sums
from graft_lightning.refusals import DamagedFile


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "below/b.bin").write_bytes(bytes(1000))
    (tmp_path / ".hidden").write_text("x")
    write_sums(tmp_path)
    return tmp_path


def test_a_folder_as_it_was_written(folder):
    check_sums(folder)
    (folder / "further.txt").write_text("is nobody's business")
    (folder / ".hidden").unlink()
    check_sums(folder)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is absent")
def test_another_program_reads_the_list(folder):
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=folder, check=True)


def test_a_folder_without_a_list_is_not_checked(folder):
    (folder / SUMS).unlink()
    (folder / "a.txt").unlink()
    check_sums(folder)


@pytest.mark.parametrize("name", ["a.txt", "below/b.bin", SUMS])
def test_a_changed_file_is_named(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[0] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DamagedFile, match="damaged"):
        check_sums(folder)


def test_an_absent_file_is_named(folder):
    (folder / "below/b.bin").unlink()
    with pytest.raises(DamagedFile, match=r"b\.bin is damaged: it is absent"):
        check_sums(folder)
