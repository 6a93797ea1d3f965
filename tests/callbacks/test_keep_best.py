"""A fit ends with its best weights, or with the base's bit for bit; both as an evaluation of its own sees it."""

import json

import pytest
import torch

from graft_lightning.callbacks import KeepBest
from graft_lightning.callbacks.keep_best import above_zero, best_checkpoint, differences, interval_of
from graft_lightning.callbacks.likely_cause import likely_cause
from graft_lightning.domains.base import Texts
from graft_lightning.runs import read_records
from tests.runs import assert_same_weights, launch, weights_of

KEPT = {"best": {"on": True}, "trainer.max_steps": 20, "data.eval_draws": 8, "data.eval_batch_size": 8}
GAINS = {**KEPT, "model.handoff": 0.0, "model.optimizer.lr": 0.003}
LOSES = {
    **KEPT,
    "model.handoff": 0.0,
    "model.optimizer.lr": 0.01,
    "data.acceptance": {"class_path": "tests.runs.Worst", "init_args": {"k": 2}},
    "collect.reward": {"class_path": "tests.runs.Paper"},
    "evaluate.rewards": [{"class_path": "tests.runs.Paper"}],
}


def kept_of(folder):
    return json.loads((folder / "run/kept.json").read_text())


def test_where_nothing_beat_the_base_it_is_returned_bit_for_bit(tmp_path):
    cli = launch("fit", tmp_path, LOSES)
    record = kept_of(tmp_path)
    assert (record["kept"], record["step"]) == ("base", 0)
    assert not any(above_zero(found) for found in record["differences"].values())
    assert record["line"].startswith("no gain: the base is returned.")
    original = dict(cli.model.views.original.named_parameters())
    for name, parameter in cli.model.network.named_parameters():
        assert torch.equal(parameter, original[name]), name
    assert best_checkpoint(tmp_path / "run").is_file()
    tested = launch("test", tmp_path, LOSES, f"--ckpt_path={best_checkpoint(tmp_path / 'run')}")
    launch("test", tmp_path / "base", {**LOSES, "model.reference.weights": f"{tmp_path}/reference.safetensors"})
    scores = [
        next(r for r in read_records(folder / "run") if r["stage"] == "test")["scores"]
        for folder in (tmp_path, tmp_path / "base")
    ]
    assert scores[0] == scores[1]
    assert tested.model.trained_steps == 0


def test_weights_that_are_not_finite_are_never_what_a_fit_ends_with(tmp_path):
    """Of a learning rate far too high: nothing can be scored, which is no gain, and told with its cause."""
    cli = launch("fit", tmp_path, {**GAINS, "model.optimizer.lr": 1e30})
    record = kept_of(tmp_path)
    assert (record["kept"], record["step"], record["differences"]) == ("base", 0, {})
    assert "lower the learning rate" in record["cause"]
    assert record["line"].startswith("no gain: the base is returned.")
    assert all(torch.isfinite(parameter).all() for parameter in cli.model.network.parameters())
    original = dict(cli.model.views.original.named_parameters())
    assert all(torch.equal(parameter, original[name]) for name, parameter in cli.model.network.named_parameters())
    scored = [r["step"] for r in read_records(tmp_path / "run") if r["method"] != "base"]
    assert max(scored) < 20, "a run that has gone for good is ended"


def test_with_adapters_too(tmp_path):
    cli = launch("fit", tmp_path, {**LOSES, "model.lora": {"rank": 2}})
    assert kept_of(tmp_path)["kept"] == "base"
    module = cli.model.eval()
    x, t = torch.randn(4, 1, 16, 16), torch.full((4,), 500.0, dtype=torch.float64)
    condition = module.reference.encode(["two ones"] * 4, "cpu")
    with torch.no_grad():
        assert torch.equal(module.views.trainable(x, t, condition), module.views.frozen(x, t, condition))


def test_the_best_evaluation_is_what_a_fit_ends_with_and_what_is_tested(tmp_path):
    cli = launch(
        "fit",
        tmp_path,
        {
            **GAINS,
            "trainer.callbacks": [
                {"class_path": "TrainableEMA", "init_args": {"decay": 0.5}},
                {"class_path": "ModelCheckpoint", "init_args": {"save_last": True, "enable_version_counter": False}},
                {"class_path": "tests.runs.Remember"},
            ],
        },
    )
    record = kept_of(tmp_path)
    assert record["kept"] == "weights"
    means = {int(step): found["mean"] for step, found in record["differences"].items()}
    assert record["step"] == max(means, key=means.get)
    assert above_zero(record["differences"][str(record["step"])])
    stored = torch.load(best_checkpoint(tmp_path / "run"), weights_only=True)
    assert stored["kept_step"] == record["step"]
    assert_same_weights(weights_of(cli), {n.removeprefix("network."): v for n, v in stored["state_dict"].items()})
    expected = next(r for r in read_records(tmp_path / "run") if r["step"] == record["step"])
    again = launch("validate", tmp_path, GAINS, f"--ckpt_path={best_checkpoint(tmp_path / 'run')}")
    seen = json.loads((tmp_path / "run/evaluation.jsonl").read_text().splitlines()[-1])
    assert seen["step"] == record["step"]
    assert seen["scores"] == expected["scores"]  # the averaged weights, as they were evaluated
    assert again.model.trained_steps == record["step"]


def test_a_resumed_run_ends_as_one_that_was_never_stopped(tmp_path):
    whole = launch("fit", tmp_path / "whole", GAINS)
    shorter = {**GAINS, "model.reference.weights": f"{tmp_path}/whole/reference.safetensors"}
    launch("fit", tmp_path / "cut", {**shorter, "trainer.max_steps": 10})
    resumed = launch("fit", tmp_path / "cut", shorter, f"--ckpt_path={tmp_path}/cut/run/checkpoints/last.ckpt")
    assert kept_of(tmp_path / "cut") == kept_of(tmp_path / "whole")
    assert_same_weights(weights_of(resumed), weights_of(whole))


def test_a_run_that_falls_for_good_is_ended(tmp_path):
    cli = launch("fit", tmp_path, {**LOSES, "trainer.max_steps": 100, "best": {"on": True, "patience": 2}})
    differences_found = kept_of(tmp_path)["differences"]
    assert cli.trainer.global_step < 100
    assert all(found["high"] < 0 for found in list(differences_found.values())[-2:])
    patient = launch(
        "fit",
        tmp_path / "patient",
        {
            **LOSES,
            "trainer.max_steps": 30,
            "best": {"on": True, "patience": 0},
            "model.reference.weights": f"{tmp_path}/reference.safetensors",
        },
    )
    assert patient.trainer.global_step == 30


@pytest.mark.parametrize("limits", [{"at_least": {"Diversity": 1e6}}, {"at_most": {"Diversity": 1e-6}}])
def test_weights_that_break_a_constraint_are_not_kept(tmp_path, limits):
    launch("fit", tmp_path, {**GAINS, "best": {"on": True, **limits}})
    record = kept_of(tmp_path)
    assert record["kept"] == "base"
    assert "hacked" in record["cause"]
    assert "Diversity" in record["cause"]


def test_a_constraint_of_nothing_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        launch("fit", tmp_path, {**GAINS, "best": {"on": True, "at_least": {"Beauty": 1.0}}})
    assert "best.at_least names 'Beauty', which is not evaluated; there are Ink, Diversity" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [{"evaluate.baseline": False}, {"trainer.limit_val_batches": 0}, {"best": {"on": False}}],
    ids=str,
)
def test_where_nothing_can_be_compared_the_last_weights_stay(tmp_path, changes):
    launch("fit", tmp_path, {**LOSES, "trainer.max_steps": 5, **changes})
    assert not (tmp_path / "run/kept.json").exists()
    assert not best_checkpoint(tmp_path / "run").exists()


class Scheduled:
    """What is read of a trainer."""

    limit_val_batches, accumulate_grad_batches, fast_dev_run = 1.0, 1, 0
    _val_check_time_interval = None

    def __init__(self, steps, every=1, inside=1.0, epochs=None, **others):
        self.max_steps, self.check_val_every_n_epoch, self.max_epochs = steps, every, epochs
        self.val_check_interval = inside
        vars(self).update(others)


class Data:
    validation, steps_per_epoch = Texts([""]), 100


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        (Scheduled(300), 60),  # three as it is set
        (Scheduled(1000), None),  # ten
        (Scheduled(500), None),
        (Scheduled(400), 80),
        (Scheduled(499), 99),  # a prime number: the last weights are not evaluated
        (Scheduled(300, every=1000), None),  # none is asked for
        (Scheduled(40), None),  # only a trial
        (Scheduled(100), 20),
        (Scheduled(300, inside=0.25), None),  # twelve
        (Scheduled(300, accumulate_grad_batches=2), None),  # six epochs of 50 steps
        (Scheduled(100, accumulate_grad_batches=2), 40),
        (Scheduled(300, limit_val_batches=0), None),
        (Scheduled(-1, epochs=3), None),
        (Scheduled(1000, epochs=3), 60),
    ],
)
def test_a_run_is_validated_at_least_five_times(trainer, expected):
    assert interval_of(trainer, Data()) == expected
    if expected:
        assert trainer.max_steps * trainer.accumulate_grad_batches // expected >= 5 or trainer.max_epochs


def test_a_real_run_is_validated_so_often(tmp_path):
    launch(
        "fit",
        tmp_path,
        {**GAINS, "trainer.max_steps": 60, "data.steps_per_epoch": 30, "best": {"on": True, "patience": 0}},
    )
    steps = [r["step"] for r in read_records(tmp_path / "run") if r["method"] != "base"]
    assert steps == [12, 24, 36, 48, 60]


def test_differences_are_of_pairs(tmp_path):
    scores = {"base": [[0.0, 1.0, 5.0]], "graft": [[0.1, 1.1, 5.1]]}
    with (tmp_path / "evaluation.jsonl").open("w") as file:
        for method, step in (("base", 0), ("graft", 10)):
            row = {"stage": "validate", "method": method, "step": step, "scores": {"r": scores[method]}}
            file.write(json.dumps(row) + "\n")
    found = differences(tmp_path, "r")[10]
    assert found["mean"] == pytest.approx(0.1)
    assert found["low"] == pytest.approx(0.1)  # of unpaired samples it would lie far below 0
    assert differences(tmp_path, "other") == {}


class Nothing:
    datamodule, state_index = None, 4


FELL = {10: {"mean": -0.3, "low": -0.4, "high": -0.2, "n": 8}}
FLAT = {10: {"mean": 0.01, "low": -0.03, "high": 0.05, "n": 8}}
ROSE = {10: {"mean": 0.3, "low": 0.2, "high": 0.4, "n": 8}}


class Chosen:
    effective_sample_size = 4.0


def test_the_likeliest_cause_is_named_by_what_is_known(tmp_path):
    assert "hacked" in likely_cause(tmp_path, Nothing, Nothing, ROSE, ["Diversity 1 against the base's 2"])
    assert "resolves (±0.040)" in likely_cause(tmp_path, Nothing, Nothing, FLAT, [])
    assert likely_cause(tmp_path, Nothing, Nothing, FELL, []).startswith("placebo")

    class Few(Nothing):
        datamodule = type("Data", (), {"selection": Chosen})

    assert "too few accepted (effective sample size 4)" in likely_cause(tmp_path, Few, Nothing, FLAT, [])
    levels = [{"state": 4, "attainable": {"mean": 0.31, "low": 0.2}}]
    (tmp_path / "diagnose.json").write_text(json.dumps({"levels": levels, "reward": {"all": 0.3}}))
    assert "hand-off is too late" in likely_cause(tmp_path, Nothing, Nothing, FELL, [])
    alarm = {"stage": "validate", "method": "graft", "step": 10, "metrics": {"change": 0.01}, "alarms": {}}
    (tmp_path / "alarms.jsonl").write_text(json.dumps(alarm))
    assert "hardly begun" in likely_cause(tmp_path, Nothing, Nothing, FLAT, [])
    (tmp_path / "placebo.json").write_text(json.dumps({"reward": "r", "moved": {"mean": -0.2}}))
    assert "unselected samples lower r too, by 0.200" in likely_cause(tmp_path, Nothing, Nothing, FELL, [])


def test_patience_is_a_number():
    with pytest.raises(ValueError, match=r"best.patience=-1"):
        KeepBest(patience=-1)
