"""A run that is interrupted, however, ends as one that was not: pool, order of examples, noise, optimiser, average."""

import os
import re
import signal

import pytest
import torch

from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.pool.round import Round
from tests.killing import killed
from tests.runs import assert_same_weights, launch, weights_of

EVERY_STEP = {"every_n_train_steps": 1, "save_last": True, "enable_version_counter": False}
CHECKPOINT = [{"class_path": "ModelCheckpoint", "init_args": EVERY_STEP}]
EMA = [{"class_path": "TrainableEMA"}]
MILESTONES = {
    "class_path": "torch.optim.lr_scheduler.MultiStepLR",
    "init_args": {"milestones": [2, 4, 6, 8], "gamma": 0.5},
}
KINDS = {
    "full": {},
    "average": {"trainer.callbacks": CHECKPOINT + EMA},
    "adapters": {"model.lora": {"rank": 2}},
    "rounds": {"collect.rounds": 2},
    "average of adapters in rounds, clipped, scheduled": {
        "trainer.callbacks": EMA + CHECKPOINT,
        "model.lora": {"rank": 2},
        "model.lr_scheduler": MILESTONES,
        "collect.rounds": 2,
        "trainer.gradient_clip_val": 0.1,
    },
    "graft with accumulation": {"model.handoff": 0.0, "trainer.accumulate_grad_batches": 2, "trainer.max_steps": 6},
}


def run(folder, kind, *more, **settings):
    return launch("fit", folder, {"trainer.callbacks": CHECKPOINT, **KINDS[kind], **settings}, *more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folders of runs that nothing interrupts, by what they are given; each is run once."""
    made = {}

    def of(kind, **settings):
        key = repr((kind, settings))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("whole")
            run(made[key], kind, **settings)
        return made[key]

    return of


def last(folder):
    return torch.load(folder / "run/checkpoints/last.ckpt")


def assert_same_end(first, second):
    """Two folders hold the same pool, and last checkpoints with the same weights, optimiser, average and place."""
    for one, two in zip(*(TrajectoryPool.open(folder / "pool").rounds() for folder in (first, second)), strict=True):
        for name in one.fields:
            assert torch.equal(one.column(name), two.column(name))
    one, two = last(first), last(second)
    assert one["global_step"] == two["global_step"]
    assert_same_weights(one["state_dict"], two["state_dict"])
    assert_same_weights(one.get("raw_parameters", {}), two.get("raw_parameters", {}))
    torch.testing.assert_close(one["optimizer_states"], two["optimizer_states"], rtol=0, atol=0)
    assert one["lr_schedulers"] == two["lr_schedulers"]
    loader = "fit_loop", "state_dict", "combined_loader"
    place_1, place_2 = one["loops"], two["loops"]
    for key in loader:
        place_1, place_2 = place_1[key], place_2[key]
    assert place_1 == place_2


def records(folder):
    """Lines of records, without the id of the fit, which is another one for each."""
    return sorted(re.sub(r', "run": "\w+"', "", line) for line in lines(folder / "run/evaluation.jsonl"))


def lines(file):
    return file.read_text().splitlines()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [3, 5], ids=["in an epoch", "between epochs"])
def test_a_resumed_run_equals_one_that_was_not_interrupted(tmp_path, whole, kind, steps):
    run(tmp_path / "parts", kind, **{"trainer.max_steps": steps})
    assert last(tmp_path / "parts")["global_step"] == steps
    run(tmp_path / "parts", kind, "--ckpt_path=last")
    assert_same_end(whole(kind), tmp_path / "parts")


@pytest.mark.parametrize("step", [3, 5, 7])
def test_a_run_that_was_killed_while_training(tmp_path, whole, step):
    callbacks = EMA + CHECKPOINT
    kill = {"class_path": "tests.runs.KillAtStep", "init_args": {"step": step}}
    unbroken = whole("full", **{"trainer.callbacks": callbacks})
    killed(lambda: run(tmp_path / "parts", "full", **{"trainer.callbacks": [kill, *callbacks]}))
    run(tmp_path / "parts", "full", "--ckpt_path=last", **{"trainer.callbacks": callbacks})
    assert_same_end(unbroken, tmp_path / "parts")
    assert records(unbroken) == records(tmp_path / "parts")


AT_EPOCHS = [{"class_path": "ModelCheckpoint", "init_args": {"save_last": True, "enable_version_counter": False}}]
EPOCHS = {
    "epochs alone": {"trainer.max_steps": ..., "trainer.max_epochs": 3},
    "epochs alone, in one": {"trainer.max_steps": ..., "trainer.max_epochs": 3, "trainer.callbacks": CHECKPOINT},
    "epochs alone, cut short": {"trainer.max_steps": ..., "trainer.max_epochs": 5, "trainer.limit_train_batches": 3},
    "steps in short epochs": {"trainer.max_steps": 14, "trainer.limit_train_batches": 3},
    "rounds in short epochs": {
        "trainer.max_steps": 14,
        "trainer.limit_train_batches": 3,
        "collect.rounds": 3,
        "collect.epochs_per_round": 2,
    },
    "loaders made anew": {"trainer.max_steps": 14, "trainer.reload_dataloaders_every_n_epochs": 1},
}


@pytest.mark.parametrize("kind", EPOCHS)
def test_a_run_goes_on_however_its_end_and_its_epochs_are_counted(tmp_path, kind):
    settings = {"trainer.callbacks": AT_EPOCHS, **EPOCHS[kind]}
    run(tmp_path / "whole", "full", **settings)
    kill = {"class_path": "tests.runs.KillAtStep", "init_args": {"step": 8}}
    killed(lambda: run(tmp_path / "parts", "full", **{**settings, "trainer.callbacks": [kill, *AT_EPOCHS]}))
    run(tmp_path / "parts", "full", "--ckpt_path=last", **settings)
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    one, two = last(tmp_path / "whole"), last(tmp_path / "parts")
    assert one["epoch"] == two["epoch"]
    assert one["AcceptedTrajectories"] == {"steps_done": one["global_step"]} == two["AcceptedTrajectories"]


@pytest.mark.parametrize("when", ["before a shard is there", "after one", "while scoring"])
def test_a_run_that_was_killed_while_collecting(tmp_path, whole, monkeypatch, when):
    method = "write_rewards" if when == "while scoring" else "write"
    original = getattr(Round, method)

    def and_die(self, *arguments):
        if when != "before a shard is there":
            original(self, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    unbroken = whole("full")
    monkeypatch.setattr(Round, method, and_die)
    killed(lambda: run(tmp_path / "parts", "full"))
    monkeypatch.undo()
    there = TrajectoryPool.open(tmp_path / "parts/pool").statistics()["trajectories"]
    assert there == {"before a shard is there": 0, "after one": 8, "while scoring": 16}[when]
    cli = run(tmp_path / "parts", "full", "--ckpt_path=last")  # there is none yet: the run begins, the pool goes on
    assert_same_end(unbroken, tmp_path / "parts")
    assert records(unbroken) == records(tmp_path / "parts")
    collector = next(callback for callback in cli.trainer.callbacks if type(callback).__name__ == "Collect")
    assert collector.drawn == 16 - there


def test_a_run_that_was_killed_while_collecting_the_second_round(tmp_path, whole, monkeypatch):
    original = Round.write

    def and_die(self, *arguments):
        original(self, *arguments)
        if self.index == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    unbroken = whole("rounds")
    monkeypatch.setattr(Round, "write", and_die)
    killed(lambda: run(tmp_path / "parts", "rounds"))
    monkeypatch.undo()
    run(tmp_path / "parts", "rounds", "--ckpt_path=last")
    assert_same_end(unbroken, tmp_path / "parts")


def test_a_run_with_other_settings_gets_a_folder_of_its_own(tmp_path, caplog):
    run(tmp_path, "full")
    old = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    run(tmp_path, "full", **{"trainer.max_steps": 5})
    assert old == {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert len((tmp_path / "run-2/evaluation.jsonl").read_text().splitlines()) == len(records(tmp_path)) - 1


def test_a_folder_without_a_checkpoint_is_used_again_and_its_records_are_set_aside(tmp_path):
    kept_nothing = {"trainer.enable_checkpointing": False, "trainer.callbacks": ...}
    run(tmp_path, "full", **kept_nothing)
    old = records(tmp_path)
    run(tmp_path, "full", **{**kept_nothing, "trainer.max_steps": 5})
    assert len(records(tmp_path)) == len(old) - 1
    assert len(lines(tmp_path / "run/earlier-evaluation.jsonl")) == len(old)


def test_the_weights_of_a_run_do_not_depend_on_validation(tmp_path):
    whole = run(tmp_path / "with", "full")
    without = run(tmp_path / "without", "full", **{"trainer.limit_val_batches": 0, "evaluate.baseline": False})
    assert_same_weights(weights_of(whole), weights_of(without))
