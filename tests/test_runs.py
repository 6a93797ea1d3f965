"""What a run leaves in its folder, read back whatever a kill has left of it."""

import os

import pytest

from graft_lightning import durable
from graft_lightning.runs import (
    DONE,
    EVALUATIONS,
    append_record,
    done,
    last_records,
    mark_done,
    newest_checkpoint,
    read_records,
)


def record(step, method="graft", **more):
    return {"stage": "validate", "method": method, "step": step, **more}


def test_of_a_repeated_record_the_last_counts(tmp_path):
    for one in (record(1, value=1), record(2, value=2), record(1, value=3), record(1, "base")):
        append_record(tmp_path / "run", EVALUATIONS, one)
    assert read_records(tmp_path / "run") == [record(1, value=3), record(2, value=2), record(1, "base")]
    assert last_records(tmp_path / "run") == [record(2, value=2), record(1, "base")]
    assert read_records(tmp_path / "absent") == []


@pytest.mark.parametrize(
    "left",
    [b'{"stage": "valid', b"{}\n", b"[1]\n", b"3\n", b"\xff\xfe\n", b"\xff\xfe", b'{"stage": "test"}\n', b"\n\n"],
    ids=repr,
)
def test_what_a_killed_run_left_swallows_no_record(tmp_path, left):
    append_record(tmp_path, EVALUATIONS, record(1))
    with open(tmp_path / EVALUATIONS, "ab") as file:
        file.write(left)
    append_record(tmp_path, EVALUATIONS, record(2))
    append_record(tmp_path, EVALUATIONS, record(3))
    assert read_records(tmp_path) == [record(1), record(2), record(3)]


def test_the_newest_checkpoint_is_found_wherever_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint below"):
        newest_checkpoint(tmp_path)
    (tmp_path / "a/b").mkdir(parents=True)
    for name, time in (("a/last.ckpt", 5), ("a/z.ckpt", 5), ("a/b/old.ckpt", 3)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time, time))
    assert newest_checkpoint(tmp_path) == tmp_path / "a/last.ckpt"
    (tmp_path / "sharded.ckpt").mkdir()
    assert newest_checkpoint(tmp_path) == tmp_path / "sharded.ckpt"


def test_a_mark_is_read_back(tmp_path):
    assert done(tmp_path) is None
    mark_done(tmp_path, "a1b2", seconds=1.5)
    assert done(tmp_path) == {"identity": "a1b2", "seconds": 1.5}


@pytest.mark.parametrize("text", [b"", b'{"identity": "a1', b"[]", b"null", b"{}", b'{"identity": 3}', b"\xff\xfe\x00"])
def test_a_damaged_mark_is_none(tmp_path, text):
    (tmp_path / DONE).write_bytes(text)
    assert done(tmp_path) is None


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch, call):
    mark_done(tmp_path, "old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, call, full)
    with pytest.raises(OSError, match="No space left"):
        mark_done(tmp_path, "new")
    assert done(tmp_path) == {"identity": "old"}
    assert [path.name for path in tmp_path.iterdir()] == [DONE]
