"""Options of Lightning's that cannot work here are refused before anything is sampled, and others are not."""

import re

import pytest

from tests.runs import launch

CHECKPOINTS = {"class_path": "ModelCheckpoint", "init_args": {"save_last": True, "enable_version_counter": False}}
ROUNDS = {"collect.rounds": 2, "data.steps_per_epoch": 2}


def also(name, **arguments):
    return {
        "trainer.callbacks": [
            CHECKPOINTS,
            {"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": arguments},
        ]
    }


REFUSED = {
    "SWA": (also("StochasticWeightAveraging", swa_lrs=0.001), "StochasticWeightAveraging .*TrainableEMA"),
    "batch sizes": (also("BatchSizeFinder"), "BatchSizeFinder .*plan"),
    "learning rates": (also("LearningRateFinder"), "LearningRateFinder .*tune"),
    "accumulation by epochs": (
        {**ROUNDS, **also("GradientAccumulationScheduler", scheduling={0: 1, 1: 2})},
        r"collect.rounds=2 .*GradientAccumulationScheduler of \{0: 1, 1: 2\}",
    ),
    "no interval": ({"trainer.val_check_interval": 0}, "trainer.val_check_interval=0; .*limit_val_batches=0"),
    "no share": ({"trainer.val_check_interval": 0.0}, "trainer.val_check_interval=0.0; "),
    "beyond an epoch": (
        {"trainer.val_check_interval": 3, "data.steps_per_epoch": 2},
        "trainer.val_check_interval=3 is more than the 2 batches of an epoch .*check_val_every_n_epoch to null",
    ),
    "beyond a part of it": (
        {"trainer.val_check_interval": 3, "data.steps_per_epoch": 4, "trainer.limit_train_batches": 0.5},
        "more than the 2 batches",
    ),
    "less than a batch": (
        {"trainer.limit_train_batches": 0.1, "data.steps_per_epoch": 4},
        "trainer.limit_train_batches=0.1 of data.steps_per_epoch=4 is not one batch; make it at least 0.25",
    ),
}


@pytest.mark.parametrize(("changes", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_before_anything_is_sampled(tmp_path, capsys, changes, told):
    with pytest.raises(SystemExit) as caught:
        launch("fit", tmp_path, changes)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert re.search(told, said), said
    assert not (tmp_path / "pool").exists()


TAKEN = {
    "batches over epochs": {"trainer.val_check_interval": 3, "trainer.check_val_every_n_epoch": None},
    "all of an epoch": {"trainer.val_check_interval": 2},
    "nothing to validate": {"trainer.val_check_interval": 9, "trainer.limit_val_batches": 0},
    "one kind of accumulation": {"collect.rounds": 2, **also("GradientAccumulationScheduler", scheduling={0: 2})},
    "tried out": {"trainer.val_check_interval": 9, "trainer.fast_dev_run": True},
    "moved": {
        "data.steps_per_epoch": 30,
        "trainer.val_check_interval": 31,
        "trainer.max_steps": 60,
        "best": {"on": True},
    },
}


@pytest.mark.parametrize("changes", TAKEN.values(), ids=TAKEN)
def test_what_can_is_not(tmp_path, monkeypatch, changes):
    monkeypatch.chdir(tmp_path)  # where what is only tried out is written
    launch("fit", tmp_path, {"data.steps_per_epoch": 2, "trainer.max_steps": 4, **changes})
