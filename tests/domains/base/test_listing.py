"""What counts as a file: links, hidden names, and what is said of the others."""

import logging
import os

import pytest

from graft_lightning.domains.base.listing import by_suffix, files_below, hidden, tell_passed_over, without_links
from graft_lightning.types import SettingsError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")


def test_linked_folders_are_followed_and_loops_end(tmp_path):
    touch(tmp_path, "data/10.xyz", "data/2.xyz", "data/sub/1.xyz", "elsewhere/a.xyz", "elsewhere/deep/b.xyz")
    (tmp_path / "data/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "data")  # a loop through another folder
    (tmp_path / "data/sub/self").symlink_to(tmp_path / "data/sub")
    (tmp_path / "data/file.xyz").symlink_to(tmp_path / "elsewhere/a.xyz")
    assert files_below(tmp_path / "data") == [
        "2.xyz",
        "10.xyz",
        "file.xyz",
        "linked/a.xyz",
        "linked/deep/b.xyz",
        "sub/1.xyz",
    ]


def test_a_folder_and_a_link_to_it_are_one(tmp_path):
    touch(tmp_path, "real/a.xyz")
    (tmp_path / "alias").symlink_to("real")
    assert files_below(tmp_path) == ["real/a.xyz"]


def test_a_link_to_nothing_is_not_overlooked(tmp_path):
    (tmp_path / "gone.xyz").symlink_to("nowhere.xyz")
    assert files_below(tmp_path) == ["gone.xyz"]


def test_a_picture_and_a_link_to_it_are_one(tmp_path, caplog):
    """But where the file itself has a name of another kind, as in a store of contents, the link is what is meant."""
    touch(tmp_path, "9.png", "sub/8.png", "contents/f00d", "elsewhere.png")
    data = tmp_path / "data"
    for name in ("9.png", "sub/8.png", "contents/f00d"):
        touch(data, name)
    for link, to in {
        "link.png": data / "9.png",
        "sub/relative.PNG": "8.png",
        "again.png": data / "link.png",
        "named.png": data / "contents/f00d",
        "other.png": tmp_path / "elsewhere.png",
    }.items():
        (data / link).symlink_to(to)
    found = files_below(data)
    assert len(found) == 8
    assert without_links(data, found) == ["9.png", "contents/f00d", "named.png", "other.png", "sub/8.png"]
    assert f"{data}: passed over 3 links to files that are there, such as again.png" in caplog.text


@pytest.mark.parametrize("name", [".a.xyz", "._a.xyz", ".git/a.xyz", "a/.b/c.xyz", "__MACOSX/a.xyz", "b/__MACOSX/._a"])
def test_hidden(tmp_path, name):
    assert hidden(name)
    touch(tmp_path / ".root", name, "seen.xyz")
    assert files_below(tmp_path / ".root") == ["seen.xyz"]  # the root was asked for, hidden or not


@pytest.mark.parametrize("name", ["a.xyz", "./a.xyz", "../a.xyz", "a.b/c..xyz", "MACOSX/a"])
def test_not_hidden(name):
    assert not hidden(name)


def test_what_is_passed_over_is_told_by_suffix(caplog):
    names = ["a.json", "b.JSON", "c/README", "d.tar.gz", "e.v2.pdb"]
    assert by_suffix(names) == "2 .json, 1 without suffix, 1 .tar.gz, 1 .pdb"
    with caplog.at_level(logging.WARNING):
        tell_passed_over("there", [], "image")
        assert not caplog.text
        tell_passed_over("there", names, "image")
    assert "there: passed over 5 files that are no image: 2 .json" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    touch(tmp_path, "locked/a.xyz", "b.xyz")
    (tmp_path / "locked").chmod(0)
    try:
        with pytest.raises(SettingsError, match="locked cannot be listed"):
            files_below(tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o700)
