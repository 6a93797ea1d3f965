"""A full disk in every writer: what was there stays, nothing else is left, and the file is named."""

import errno
import os
import resource
import signal
import sys
from pathlib import Path

import pytest
import torch

from graft_lightning import durable
from graft_lightning.checkpoints import DurableCheckpoints
from graft_lightning.cli.telling import told
from graft_lightning.durable import append_line, write_text
from graft_lightning.reports.charts import save_figure
from graft_lightning.runs import EVALUATIONS, append_record, mark_done, read_records
from graft_lightning.tensors import write_tensors
from tests.faults.counting import count

LARGE = 300_000
"""Bytes that every writer is given, or more."""


def _figure(path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 12))
    figure.subplots().imshow(torch.rand(400, 400, generator=torch.Generator().manual_seed(0)))
    save_figure(figure, path)


STATE = {"state_dict": {"w": torch.zeros(LARGE)}, "global_step": 1}
WRITERS = {
    "text": lambda path: write_text(path, "x" * LARGE),
    "tensors": lambda path: write_tensors(path, {"w": torch.zeros(LARGE)}),
    "checkpoint": lambda path: DurableCheckpoints().save_checkpoint(STATE, path),
    "figure": _figure,
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_no_space_left(tmp_path, monkeypatch, writer, call):
    path = tmp_path / "file.png"
    path.write_bytes(b"old")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable.os, call, full)
    with pytest.raises(OSError, match=r"No space left.*file\.png"):
        WRITERS[writer](path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    count("full disks", "the old file stays")


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE")
def test_a_limit_of_size_in_the_middle_of_a_file(tmp_path, writer, drawn):
    """In a process of its own: the limit cannot be raised again for what pytest writes."""
    path = tmp_path / "file.png"
    path.write_bytes(b"old")
    child = os.fork()
    if child == 0:
        code = 3
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
            WRITERS[writer](path)
        except OSError as error:
            message, exit_code = told(error)
            code = 0 if error.errno == errno.EFBIG and "file.png" in message and exit_code == 2 else 4
        except BaseException:
            code = 5
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    count("full disks", "the old file stays")


def test_a_record_that_does_not_fit_leaves_those_before_it(tmp_path, monkeypatch):
    record = {"stage": "test", "method": "graft", "step": 1}
    append_record(tmp_path, EVALUATIONS, record)
    before = (tmp_path / EVALUATIONS).read_bytes()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        append_record(tmp_path, EVALUATIONS, {**record, "step": 2})
    monkeypatch.undo()
    assert (tmp_path / EVALUATIONS).read_bytes() == before
    append_record(tmp_path, EVALUATIONS, {**record, "step": 3})
    assert [r["step"] for r in read_records(tmp_path)] == [1, 3]
    count("full disks", "the old file stays")


def test_a_line_that_lacks_nothing_but_its_break_is_kept(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n{"a": 2}')
    append_line(tmp_path / "a.jsonl", '{"a": 3}')
    assert (tmp_path / "a.jsonl").read_bytes() == b'{"a": 1}\n{"a": 2}\n{"a": 3}\n'


def test_a_line_that_was_cut_off_is_cut_away(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n{"a"' + b" " * 100_000)
    append_line(tmp_path / "a.jsonl", '{"a": 3}')
    assert (tmp_path / "a.jsonl").read_bytes() == b'{"a": 1}\n{"a": 3}\n'


SHM = Path("/dev/shm")


@pytest.mark.skipif(not SHM.is_dir(), reason="/dev/shm, the second file system, is absent")
def test_a_checkpoint_never_leaves_its_file_system(tmp_path, monkeypatch):
    """The temporary folder is another one: a file that came from there would be copied over the old."""
    monkeypatch.setenv("TMPDIR", str(SHM))
    monkeypatch.setattr("tempfile.tempdir", str(SHM))
    renamed = []
    replace = os.replace
    monkeypatch.setattr(durable.os, "replace", lambda a, b: (renamed.append((Path(a), Path(b))), replace(a, b))[1])
    DurableCheckpoints().save_checkpoint(STATE, tmp_path / "last.ckpt")
    ((source, target),) = renamed
    assert source.parent == target.parent == tmp_path


def test_a_mark_is_written_whole(tmp_path):
    mark_done(tmp_path, "one")
    assert [path.name for path in tmp_path.iterdir()] == ["done.json"]
