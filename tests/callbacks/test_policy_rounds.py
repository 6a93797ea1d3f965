"""Whole runs by policy gradients: rounds, accumulation over the steps of a trajectory, and what is said of them."""

import pytest
import torch

from graft_lightning.modules import PGraft
from graft_lightning.modules import graft as module_file
from graft_lightning.rejection.pool import TrajectoryPool
from tests.runs import assert_same_weights, launch, weights_of

NAMES = {"DDPO": {"buffer": 8, "least": 2, "clip": 0.1}, "FlowGRPO": {"clip": 0.1}}


def changes_for(name, **more):
    objective = {"class_path": f"graft_lightning.rejection.objectives.{name}", "init_args": NAMES[name]}
    every = {"save_top_k": -1, "every_n_train_steps": 1, "filename": "{step}"}
    return {
        "model.objective": objective,
        "collect.rounds": 2,
        "collect.keep": [],
        "data.steps_per_epoch": 12,  # of 6 trained steps above the hand-off: two blocks, two updates
        "trainer.accumulate_grad_batches": 6,
        "trainer.max_steps": 4,
        "trainer.limit_val_batches": 0,
        "evaluate.baseline": False,
        "trainer.callbacks": [{"class_path": "ModelCheckpoint", "init_args": every}],
        **more,
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_run_draws_a_second_round_and_goes_on_after_a_cut_as_if_there_had_been_none(tmp_path, name):
    whole = launch("fit", tmp_path, changes_for(name))
    assert whole.model.method == {"DDPO": "pddpo@0.25", "FlowGRPO": "pflow-grpo@0.25"}[name]
    assert (whole.trainer.global_step, len(TrajectoryPool.open(tmp_path / "pool").rounds())) == (4, 2)
    at_two = PGraft.load_from_checkpoint(tmp_path / "run/checkpoints/step=2.ckpt")
    kept = dict(at_two.network.named_parameters())
    assert all(torch.equal(whole.model.drew_with[key], kept[key]) for key in kept)
    resumed = launch("fit", tmp_path, changes_for(name), f"--ckpt_path={tmp_path / 'run/checkpoints/step=3.ckpt'}")
    assert_same_weights(weights_of(whole), weights_of(resumed))


def test_gradients_of_few_steps_in_an_update_are_told_of(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(module_file.log, "warning", lambda message, *values: said.append(message % values))
    launch("fit", tmp_path, changes_for("DDPO", **{"trainer.accumulate_grad_batches": 4, "collect.rounds": 1}))
    assert any("trainer.accumulate_grad_batches=4" in text and "6 steps" in text for text in said)
    said.clear()
    launch("fit", tmp_path, changes_for("DDPO", **{"collect.rounds": 1, "trainer.max_steps": 1}))
    assert not any("accumulate" in text for text in said)
