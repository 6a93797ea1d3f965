"""What stands under a name while it is written anew: the old or the new, whenever the process is killed."""

import os
import shutil

import pytest

from graft_lightning import durable
from graft_lightning.durable import exchange, replacing, replacing_folder
from tests.killing import die_at, killed


def write(folder, text, parts=("a", "b/c")):
    with replacing_folder(folder) as temporary:
        for part in parts:
            (temporary / part).parent.mkdir(parents=True, exist_ok=True)
            (temporary / part).write_text(text)


def read(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


OLD, NEW = {"a": "old", "b/c": "old"}, {"a": "new", "b/c": "new"}


@pytest.fixture(params=["exchanged", "two steps"])
def file_system(request, monkeypatch):
    """One that lets two folders change places, and one that does not know how."""
    if request.param == "two steps":
        monkeypatch.setattr(durable, "exchange", lambda first, second: False)
    return request.param


@pytest.mark.parametrize(
    ("where", "name", "number", "left"),
    [
        (durable, "sync_file", 2, OLD),
        (durable, "exchange", 1, OLD),
        (shutil, "rmtree", 1, NEW),
    ],
    ids=["before", "as the places change", "after"],
)
def test_a_folder_is_the_old_one_or_the_new_one_whenever_it_is_killed(
    tmp_path, monkeypatch, file_system, where, name, number, left
):
    write(tmp_path / "folder", "old")
    with monkeypatch.context() as patch:
        die_at(patch, where, name, number)
        killed(lambda: write(tmp_path / "folder", "new"))
    assert read(tmp_path / "folder") == left
    write(tmp_path / "folder", "newer")
    assert set(read(tmp_path / "folder").values()) == {"newer"}


def test_what_was_moved_aside_is_put_back_by_the_next_call(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "exchange", lambda first, second: False)
    folder = tmp_path / "folder"
    write(folder, "old")
    write(tmp_path / "folder.a", "another")
    with monkeypatch.context() as patch:
        die_at(patch, os, "rename", 2)
        killed(lambda: write(folder, "new"))
    assert not folder.exists()
    with pytest.raises(RuntimeError, match="nothing came of it"), replacing_folder(folder):
        raise RuntimeError("nothing came of it")
    assert read(folder) == OLD
    write(folder, "new")
    assert read(folder) == NEW
    assert not list(tmp_path.glob(".*.old"))
    assert set(read(tmp_path / "folder.a").values()) == {"another"}


def test_two_folders_change_places_in_one_step(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(tmp_path / "one", tmp_path / "two")
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["two"]
    assert not exchange(tmp_path / "one", tmp_path / "absent")


@pytest.mark.parametrize("letter", ["a", "ü", "字", "🦜"])
def test_the_longest_names_that_a_file_system_takes_can_be_written(tmp_path, letter):
    longest = letter * (255 // len(letter.encode()))
    with replacing(tmp_path / longest) as temporary:
        temporary.write_text("text")
    assert (tmp_path / longest).read_text() == "text"
    (tmp_path / longest).unlink()
    write(tmp_path / longest, "old")
    write(tmp_path / longest, "new")
    assert read(tmp_path / longest) == NEW
