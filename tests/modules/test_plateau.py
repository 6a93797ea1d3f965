"""A schedule that goes by what it monitors."""

import pytest
import torch

from graft_lightning.modules.denoising import LOSS
from tests.runs import launch

PLATEAU = {"class_path": "lightning.pytorch.cli.ReduceLROnPlateau"}
SOON = {"factor": 0.5, "patience": 0, "threshold": 1e9, "threshold_mode": "abs"}  # nothing is ever better


@pytest.mark.parametrize("monitor", [LOSS, "validate/Ink"])
def test_the_rate_falls_at_epochs_that_are_no_better(tmp_path, monitor):
    schedule = {**PLATEAU, "init_args": {"monitor": monitor, **SOON}}
    changes = {"model.lr_scheduler": schedule, "data.steps_per_epoch": 2, "trainer.max_steps": 6}
    cli = launch("fit", tmp_path, changes)
    (optimizer,) = cli.trainer.optimizers
    rate, epochs = optimizer.param_groups[0]["lr"], cli.trainer.lr_scheduler_configs[0].scheduler.last_epoch
    assert cli.trainer.lr_scheduler_configs[0].interval == "epoch"
    assert epochs == 3
    asked = cli.model.optimizer([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"]
    assert rate == asked * 0.5**2  # the first epoch is the best there is


def test_one_that_names_nothing_is_refused_with_what_would_be_right(tmp_path, capsys):
    schedule = {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau"}
    with pytest.raises(SystemExit):
        launch("fit", tmp_path, {"model.lr_scheduler": schedule})
    assert "lightning.pytorch.cli.ReduceLROnPlateau, with init_args.monitor" in capsys.readouterr().err
    assert not (tmp_path / "pool").exists()
