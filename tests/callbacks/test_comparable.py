"""The base and the model are measured alike: in one precision, on as many batches, in the records of one run."""

import json
import re

import pytest

from graft_lightning.callbacks.keep_best import UNJUDGED
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.runs import read_records, run_in, validations
from tests.runs import launch

STILL = {"model.optimizer.lr": 0.0, "data.eval_draws": 2, "best": {"on": True}}
STILL |= {"trainer.max_steps": 4, "data.steps_per_epoch": 2}
MIXED = {**STILL, "trainer.precision": "bf16-mixed"}


def scores(folder, stage):
    """By method, the scores of the records of a stage."""
    return [(r["method"], r["scores"]) for r in read_records(folder / "run") if r["stage"] == stage]


@pytest.mark.parametrize("changes", [STILL, MIXED], ids=["full", "mixed"])
@pytest.mark.parametrize("handoff", [0.0, 0.25])
def test_a_model_that_learned_nothing_scores_what_its_base_does(tmp_path, changes, handoff):
    changes = {**changes, "model.handoff": handoff}
    launch("fit", tmp_path, changes)
    launch("test", tmp_path, changes, "--ckpt_path=last")
    for stage in ("validate", "test"):
        (base, expected), *others = scores(tmp_path, stage)
        assert base == "base"
        assert others
        assert all(found == expected for _, found in others)
    found = json.loads((tmp_path / "run/kept.json").read_text())["differences"].values()
    assert [difference["mean"] for difference in found] == [0.0] * len(found)


def test_rounds_are_drawn_as_the_model_is_evaluated_and_say_so(tmp_path, capsys):
    launch("fit", tmp_path / "mixed", MIXED)
    launch("fit", tmp_path / "full", STILL)
    drawn = [TrajectoryPool.open(tmp_path / name / "pool").round(0, None, None) for name in ("mixed", "full")]
    first, second = (one.read(range(len(one)), ["x_0"])["x_0"] for one in drawn)
    assert 0 < (first - second).abs().max() < 1
    with pytest.raises(SystemExit):
        launch("fit", tmp_path / "again", {**STILL, "data.pool": str(tmp_path / "mixed/pool")})
    assert re.search(r"precision.*bf16-mixed", capsys.readouterr().err)


@pytest.mark.parametrize("limit", [1, 0.5])
def test_the_base_is_measured_on_as_many_batches_as_the_model(tmp_path, limit):
    few = {**STILL, "data.eval_batch_size": 2, "trainer.limit_val_batches": limit, "trainer.limit_test_batches": limit}
    launch("fit", tmp_path, few)
    launch("test", tmp_path, few, "--ckpt_path=last")
    for stage in ("validate", "test"):
        (_, expected), *others = scores(tmp_path, stage)
        assert others
        assert all(found == expected for _, found in others)
    assert (tmp_path / "run/kept.json").is_file()
    part = expected
    whole = {**few, "trainer.limit_test_batches": 1.0}
    launch("test", tmp_path, whole, "--ckpt_path=last")  # for which the base of a part does not serve
    (_, base), (_, model) = scores(tmp_path, "test")
    assert base == model
    assert len(str(base)) > len(str(part))


def test_a_run_that_goes_on_from_another_has_a_base_and_a_best_of_its_own(tmp_path):
    launch("fit", tmp_path / "first", {**STILL, "model.optimizer.lr": 0.003})
    pool = {"data.pool": str(tmp_path / "first/pool")}
    other = f"--ckpt_path={tmp_path}/first/run/checkpoints/last.ckpt"
    launch("fit", tmp_path / "second", {**STILL, **pool, "trainer.max_steps": 8}, other)
    folder = tmp_path / "second/run"
    assert {record["run"] for record in read_records(folder)} == {run_in(folder)}
    assert 0 in validations(folder)
    assert json.loads((folder / "kept.json").read_text())["step"] in (0, *validations(folder))


def test_what_could_not_be_judged_is_said(tmp_path, caplog):
    launch("fit", tmp_path, {**STILL, "evaluate.baseline": False})
    assert UNJUDGED in caplog.text


@pytest.mark.parametrize("command", ["collect", "diagnose", "placebo", "tune"])
def test_a_pool_that_another_command_has_filled_is_the_one_of_a_fit(tmp_path, command):
    launch(command, tmp_path, MIXED)
    before = {path: path.read_bytes() for path in (tmp_path / "pool").rglob("*.safetensors")}
    assert before
    launch("fit", tmp_path, MIXED)
    assert {path: path.read_bytes() for path in (tmp_path / "pool").rglob("*.safetensors")} == before
