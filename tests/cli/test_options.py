"""Options of Lightning's that cannot work here are refused before anything is sampled, and others are not."""

import re

import lightning as L
import pytest

from graft_lightning.callbacks import Collect
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
    "one batch again and again": ({"trainer.overfit_batches": 1}, "trainer.overfit_batches=1 would repeat no batch"),
    "weights in 16 bits": ({"trainer.precision": "bf16-true"}, "trainer.precision=bf16-true .*make it bf16-mixed"),
    "weights in 64 bits": ({"trainer.precision": "64-true"}, "trainer.precision=64-true .*leave it at 32-true"),
    "stopping by nothing": (
        also("EarlyStopping", monitor="val_loss"),
        "EarlyStopping has monitor=val_loss, .*validate/Ink, validate/Diversity, train/loss",
    ),
    "keeping by nothing": (also("ModelCheckpoint", monitor="validate/ink"), "ModelCheckpoint has monitor=validate/ink"),
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


class Logs(L.Callback):
    """A user's own callback."""

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("mine", 1.0)


def test_a_fit_does_not_go_on_from_weights_alone(tmp_path, capsys, monkeypatch):
    """It says so before a pool is opened; a test needs no more than weights."""
    alone = {"save_last": True, "enable_version_counter": False, "save_weights_only": True}
    changes = {"trainer.callbacks": [{"class_path": "ModelCheckpoint", "init_args": alone}]}
    launch("fit", tmp_path, changes)
    launch("test", tmp_path, changes, "--ckpt_path=last")
    monkeypatch.setattr(Collect, "collect", lambda *given: pytest.fail("looked at the pool"))
    with pytest.raises(SystemExit) as caught:
        launch("fit", tmp_path, changes, "--ckpt_path=last")
    assert caught.value.code == 2
    told = r"ckpt_path=.*last.ckpt holds weights alone \(save_weights_only of a ModelCheckpoint\)"
    assert re.search(told, capsys.readouterr().err)


def test_a_fit_goes_on_from_a_sharded_checkpoint(tmp_path):
    """Whose weights and states are read apart from what a module is shown of it."""
    strategy = {
        "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
        "init_args": {"data_parallel_size": 1, "tensor_parallel_size": 1},
    }
    sharded = {"trainer.strategy": strategy, "trainer.devices": 1, "trainer.max_steps": 5}
    launch("fit", tmp_path, sharded)
    last = tmp_path / "run/checkpoints/last.ckpt"
    assert last.is_dir()
    cli = launch("fit", tmp_path, {**sharded, "trainer.max_steps": 8}, f"--ckpt_path={last}")
    assert cli.trainer.global_step == 8


TAKEN = {
    "batches over epochs": {"trainer.val_check_interval": 3, "trainer.check_val_every_n_epoch": None},
    "all of an epoch": {"trainer.val_check_interval": 2},
    "nothing to validate": {"trainer.val_check_interval": 9, "trainer.limit_val_batches": 0},
    "one kind of accumulation": {"collect.rounds": 2, **also("GradientAccumulationScheduler", scheduling={0: 2})},
    "stopping by a score": also("EarlyStopping", monitor="validate/Diversity"),
    "stopping by the loss": also("EarlyStopping", monitor="train/loss", check_on_train_epoch_end=True),
    "keeping by the reward that is trained on": {
        "evaluate.rewards": [],
        **also("ModelCheckpoint", monitor="validate/Ink", mode="max", filename="best"),
    },
    "keeping by the second of a class": {
        "evaluate.metrics": [{"class_path": "graft_lightning.domains.base.Diversity"}] * 2,
        **also("ModelCheckpoint", monitor="validate/Diversity-2", mode="max", filename="best"),
    },
    "keeping by the step": also("ModelCheckpoint", monitor="step", mode="max", filename="newest"),
    "what a callback of one's own logs": {
        "trainer.callbacks": [
            {"class_path": "tests.cli.test_options.Logs"},
            {"class_path": "EarlyStopping", "init_args": {"monitor": "mine"}},
        ]
    },
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
