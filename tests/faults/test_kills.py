"""Runs that are killed at one point after another, and go on: their end is that of a run that nobody disturbed."""

import json
from pathlib import Path

import pytest
import torch

from graft_lightning import durable
from graft_lightning.callbacks.evaluate import Evaluate
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.pool.round import Round
from tests.faults.counting import count
from tests.killing import die_at, killed
from tests.runs import assert_same_weights, launch

CALLBACKS = [
    {"class_path": "TrainableEMA"},
    {
        "class_path": "ModelCheckpoint",
        "init_args": {"every_n_train_steps": 1, "save_last": True, "enable_version_counter": False},
    },
]

POINTS = {
    "the first shard": (Round, "write", 1),
    "the second shard": (Round, "write", 2),
    "the first scores": (Round, "write_rewards", 1),
    "the second scores": (Round, "write_rewards", 2),
    "the evaluation of the base": (Evaluate, "_take", 1),
    "its record": (Evaluate, "_finish", 1),
    "the first validation": (Evaluate, "_take", 4),
    "the end of the first validation": (Evaluate, "_finish", 2),
    "the last validation": (Evaluate, "_take", 6),
    "the end of the last validation": (Evaluate, "_finish", 3),
}
CHECKPOINTS = {f"checkpoint write {number}": number for number in (1, 3, 5, 6, 8, 10)}
STEPS = (2, 5, 7, 10)


def run(folder: Path, *more, **settings):
    return launch("fit", folder, {"trainer.callbacks": CALLBACKS, **settings}, *more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def recorded(file: Path) -> list[str]:
    """What is on record, each once, without which run it was: a run that begins anew is another one."""
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return sorted({json.dumps({key: value for key, value in line.items() if key != "run"}) for line in found})


def assert_same_end(one: Path, two: Path) -> None:
    first, second = (TrajectoryPool.open(folder / "pool").round(0) for folder in (one, two))
    for name in first.fields:
        assert torch.equal(first.column(name), second.column(name))
    assert torch.equal(first.rewards("Ink"), second.rewards("Ink"))
    last, other = (torch.load(folder / "run/checkpoints/last.ckpt") for folder in (one, two))
    assert last["global_step"] == other["global_step"] == 10
    assert_same_weights(last["state_dict"], other["state_dict"])
    assert_same_weights(last["raw_parameters"], other["raw_parameters"])
    torch.testing.assert_close(last["optimizer_states"], other["optimizer_states"], rtol=0, atol=0)
    for name in ("evaluation.jsonl", "alarms.jsonl"):
        assert recorded(one / "run" / name) == recorded(two / "run" / name), name
    assert not list(two.rglob("*.ckpt.*.tmp")) or len(list(two.rglob("*.ckpt.*.tmp"))) == 1


def kill_and_go_on(whole, folder, monkeypatch, *point, chosen=lambda *a: True):
    with monkeypatch.context() as patch:
        die_at(patch, *point, chosen)
        killed(lambda: run(folder))
    run(folder, "--ckpt_path=last")
    assert_same_end(whole, folder)
    count("kill points", "as if undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_in(tmp_path, monkeypatch, whole, point):
    kill_and_go_on(whole, tmp_path, monkeypatch, *POINTS[point])


def is_last(temporary, path=None):
    return str(path).endswith("last.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize("point", CHECKPOINTS)
def test_between_the_writing_and_the_renaming_of(tmp_path, monkeypatch, whole, point):
    kill_and_go_on(whole, tmp_path, monkeypatch, durable.os, "replace", CHECKPOINTS[point], chosen=is_last)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_after_a_step(tmp_path, whole, step):
    kill = {"class_path": "tests.runs.KillAtStep", "init_args": {"step": step}}
    killed(lambda: run(tmp_path, **{"trainer.callbacks": [kill, *CALLBACKS]}))
    run(tmp_path, "--ckpt_path=last")
    assert_same_end(whole, tmp_path)
    count("kill points", "as if undisturbed")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="/dev/shm, the second file system, is absent")
def test_while_the_temporary_folder_is_on_another_file_system(tmp_path, monkeypatch, whole):
    monkeypatch.setenv("TMPDIR", "/dev/shm")
    monkeypatch.setattr("tempfile.tempdir", "/dev/shm")
    kill_and_go_on(whole, tmp_path, monkeypatch, durable.os, "replace", 6, chosen=is_last)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["empty", "cut", "a bit"])
def test_a_last_checkpoint_that_is_damaged(tmp_path, damage, capfd):
    run(tmp_path)
    last = tmp_path / "run/checkpoints/last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes({"empty": b"", "cut": bytes(content[:-1000]), "a bit": bytes(content)}[damage])
    run(tmp_path, "--ckpt_path=last")
    said = capfd.readouterr().err
    assert "last.ckpt is damaged" in said
    assert "newest intact checkpoint" in said
