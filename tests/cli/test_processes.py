"""Two processes do what one does: the same pool, the same decisions, the same training, the same evaluation."""

import importlib
import json
import re
import time

import pytest
import torch
import torch.distributed as dist

from graft_lightning.callbacks.collect import Collect
from graft_lightning.cli.main import COMMANDS, main
from graft_lightning.rejection.pool import PoolMismatch, TrajectoryPool
from tests.runs import assert_same_weights, launch, weights_of

TWO = {"trainer.devices": 2, "trainer.strategy": "ddp_fork", "data.batch_size": 2}
SHARDED = {**TWO, "trainer.strategy": {"class_path": "tests.strategies.ForkedModelParallel"}}
SGD = {"model.optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}}}


def rounds(folder):
    return TrajectoryPool.open(folder / "pool").rounds()


def assert_same_pools(first, second):
    for one, two in zip(rounds(first), rounds(second), strict=True):
        assert one.fields == two.fields
        for name in one.fields:
            torch.testing.assert_close(one.column(name), two.column(name), rtol=0, atol=1e-5)
        for name in ("condition", "draw", "seed", "key"):
            assert torch.equal(one.column(name), two.column(name))
        torch.testing.assert_close(one.rewards("Ink"), two.rewards("Ink"), rtol=0, atol=1e-5)


def evaluations(folder):
    lines = (folder / "run/evaluation.jsonl").read_text().splitlines()
    return {(r["stage"], r["method"], r["step"]): r for r in map(json.loads, lines)}


def assert_same_evaluations(first, second):
    one, two = evaluations(first), evaluations(second)
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(one[key]["scores"], two[key]["scores"], rtol=0, atol=1e-4)
        torch.testing.assert_close(one[key]["metrics"], two[key]["metrics"], rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize(
    "changes",
    [{}, {"model.lora": {"rank": 2}}, {"collect.rounds": 2}, {"data.eval_batch_size": 256}],
    ids=["full", "adapters", "rounds", "one batch of held-out samples"],
)
def test_two_processes_do_what_one_does(tmp_path, changes):
    one = launch("fit", tmp_path / "one", {**SGD, **changes})
    two = launch("fit", tmp_path / "two", {**SGD, **TWO, **changes})
    assert_same_pools(tmp_path / "one", tmp_path / "two")
    accepted = [json.loads((tmp_path / name / "run/collected.json").read_text()) for name in ("one", "two")]
    assert accepted[0]["accepted"] == accepted[1]["accepted"]
    assert_same_weights(
        weights_of(one), weights_of(two), rtol=0, atol=2e-6 if "collect.rounds" not in changes else 1e-5
    )
    assert_same_evaluations(tmp_path / "one", tmp_path / "two")


def test_one_process_goes_on_where_two_stopped(tmp_path):
    changes = {
        **SGD,
        "trainer.callbacks": [
            {"class_path": "TrainableEMA"},
            {"class_path": "ModelCheckpoint", "init_args": {"save_last": True, "enable_version_counter": False}},
        ],
    }
    launch("fit", tmp_path / "one", changes)
    launch("fit", tmp_path / "two", {**changes, **TWO, "trainer.max_steps": 5})
    launch("fit", tmp_path / "two", changes, "--ckpt_path=last")
    one, two = (torch.load(tmp_path / name / "run/checkpoints/last.ckpt") for name in ("one", "two"))
    assert_same_weights(one["state_dict"], two["state_dict"], rtol=0, atol=2e-6)
    assert_same_weights(one["raw_parameters"], two["raw_parameters"], rtol=0, atol=2e-6)


def test_sharded_training_gives_the_same_weights(tmp_path):
    callbacks = [
        {"class_path": "TrainableEMA"},
        {"class_path": "ModelCheckpoint", "init_args": {"save_last": True, "enable_version_counter": False}},
    ]
    changes = {**SGD, "trainer.callbacks": callbacks}
    launch("fit", tmp_path / "one", {**changes, **TWO})
    launch("fit", tmp_path / "two", {**changes, **SHARDED})
    assert_same_pools(tmp_path / "one", tmp_path / "two")
    one, two = (torch.load(tmp_path / name / "run/checkpoints/last.ckpt") for name in ("one", "two"))
    assert_same_weights(one["state_dict"], two["state_dict"], rtol=0, atol=2e-6)
    assert_same_weights(one["raw_parameters"], two["raw_parameters"], rtol=0, atol=2e-6)
    assert_same_evaluations(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("changes", [{"model.lora": {"rank": 2}}, {"collect.rounds": 2}], ids=["adapters", "rounds"])
def test_sharded_networks_also_fill_pools(tmp_path, changes):
    """Three shards for two processes: a sharded network needs both at every call."""
    changes = {**SGD, **changes, "collect.batch_size": 6}
    launch("fit", tmp_path / "one", changes)
    launch("fit", tmp_path / "two", {**changes, **SHARDED})
    assert_same_pools(tmp_path / "one", tmp_path / "two")
    one, two = (torch.load(tmp_path / name / "run/checkpoints/last.ckpt") for name in ("one", "two"))
    assert one["global_step"] == two["global_step"] == 10
    assert_same_weights(one["state_dict"], two["state_dict"], rtol=0, atol=1e-5)
    assert_same_evaluations(tmp_path / "one", tmp_path / "two")


def test_a_refusal_reaches_every_process(tmp_path, monkeypatch, capsys):
    """Each process leaves what it was told, and waits for the other: the first one to end has the launcher end all."""
    launch("fit", tmp_path, {"trainer.max_steps": 1})
    collect = Collect.collect

    def told(self, trainer, *rest):
        try:
            collect(self, trainer, *rest)
        except PoolMismatch as error:
            (tmp_path / f"told-{trainer.global_rank}").write_text(str(error))
            until = time.monotonic() + 20
            while len(list(tmp_path.glob("told-*"))) < 2 and time.monotonic() < until:
                time.sleep(0.05)
            raise

    monkeypatch.setattr(Collect, "collect", told)
    with pytest.raises(SystemExit, match="2"):
        launch("fit", tmp_path, {**TWO, "seed_everything": 4})
    printed = capsys.readouterr().err
    assert re.search(r"^error: .*\n  run_seed: 3 in the pool, 4 now$", printed, re.MULTILINE)
    first, second = (path.read_text() for path in sorted(tmp_path.glob("told-*")))
    assert "run_seed: 3 in the pool, 4 now" in first
    assert first == second


@pytest.mark.parametrize("command", ["fit", "rescore"])
def test_a_process_that_is_done_leaves_its_group(monkeypatch, command):
    """Of gloo's, Lightning leaves it to the end of the interpreter, which a running thread of it ends by SIGABRT."""
    module, _, function = COMMANDS[command].target.partition(":")
    monkeypatch.setattr(importlib.import_module(module), function, lambda words: None)
    monkeypatch.setattr("sys.argv", ["graft_lightning", command])
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    main([command])
    assert dist.is_initialized(), "of a caller that goes on it is not ours to end"
    main()
    assert not dist.is_initialized()
