"""What a fit has spent: counted by hand, the same after a kill, summed over processes."""

import json

import pytest

from graft_lightning.runs import SPENT, read_records
from tests.runs import DRAWS, PROMPTS, STEPS, launch

SAMPLES = len(PROMPTS) * DRAWS
COUNTS = ("samples", "reward_calls", "forward_backward", "forward")
CHECKPOINT = [
    {
        "class_path": "ModelCheckpoint",
        "init_args": {"every_n_train_steps": 1, "save_last": True, "enable_version_counter": False},
    }
]


def spent(folder):
    """By step, of the model that was trained."""
    return {record["step"]: record["spent"] for record in read_records(folder / "run", SPENT)}


def counts(found):
    return tuple(found[name] for name in COUNTS)


def test_by_hand(tmp_path):
    """Batches of 4; 8 calls of the network a sample; epochs of 5 steps."""
    launch("fit", tmp_path)
    found = spent(tmp_path)
    assert list(found) == [5, 10]
    assert counts(found[5]) == (SAMPLES, SAMPLES, 20, SAMPLES * STEPS)
    assert counts(found[10]) == (SAMPLES, SAMPLES, 40, SAMPLES * STEPS)
    assert found[10]["wall_seconds"] > found[5]["wall_seconds"] > 0
    assert found[10]["core_seconds"] > found[5]["core_seconds"] > 0


def test_a_pool_that_is_there_costs_the_method_what_it_cost_whoever_drew_it(tmp_path):
    launch("fit", tmp_path)
    first = spent(tmp_path)
    launch("fit", tmp_path, None, "--model.optimizer.lr=0.02")
    again = {r["step"]: r["spent"] for r in read_records(tmp_path / "run-2", SPENT)}
    assert counts(again[10]) == counts(first[10])


def test_the_reference_that_an_objective_asks_counts_as_forward_only(tmp_path):
    launch("fit", tmp_path, {"model.baseline": "unselected"})
    assert counts(spent(tmp_path)[10]) == (SAMPLES, SAMPLES, 40, SAMPLES * STEPS + 40)


def test_later_rounds_add_their_samples(tmp_path):
    launch("fit", tmp_path, {"collect.rounds": 2})
    found = spent(tmp_path)
    assert counts(found[10])[:3] == (2 * SAMPLES, 2 * SAMPLES, 40)
    assert found[10]["forward"] == 2 * SAMPLES * STEPS


@pytest.mark.parametrize("settings", [{}, {"collect.rounds": 2}], ids=["one round", "two rounds"])
def test_a_run_that_goes_on_adds_up_as_one_that_was_not_stopped(tmp_path, settings):
    settings = {"trainer.callbacks": CHECKPOINT, **settings}
    launch("fit", tmp_path / "whole", settings)
    launch("fit", tmp_path / "parts", {**settings, "trainer.max_steps": 7})
    launch("fit", tmp_path / "parts", settings, f"--ckpt_path={tmp_path}/parts/run/checkpoints/last.ckpt")
    whole = spent(tmp_path / "whole")[10]
    (folder,) = [f for f in (tmp_path / "parts").glob("run*") if 10 in {r["step"] for r in read_records(f, SPENT)}]
    parts = {r["step"]: r["spent"] for r in read_records(folder, SPENT)}[10]
    assert counts(parts) == counts(whole)
    assert parts["wall_seconds"] > 0


def test_two_processes_are_summed(tmp_path):
    launch("fit", tmp_path, {"trainer.devices": 2, "trainer.strategy": "ddp_fork", "data.batch_size": 2})
    assert counts(spent(tmp_path)[10]) == (SAMPLES, SAMPLES, 40, SAMPLES * STEPS)


def test_nothing_is_added_by_a_test(tmp_path):
    launch("fit", tmp_path)
    before = (tmp_path / "run" / SPENT).read_text()
    assert [json.loads(line)["stage"] for line in before.splitlines()] == ["validate", "validate"]
    launch("test", tmp_path, None, "--ckpt_path=last")
    assert (tmp_path / "run" / SPENT).read_text() == before
