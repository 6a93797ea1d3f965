"""Steering on the command line: what it is called, what it costs, what it leaves alone."""

import json

import pytest
import torch

from graft_lightning.runs import read_records, validations
from tests.runs import HELD_OUT, STEPS, launch

FOUR = ("--steer.particles=4", "--steer.every=2", "--steer.temperature=0.01")
SAMPLES = 2 * len(HELD_OUT)


def records(folder, stage="test"):
    return {r["method"]: r for r in read_records(folder / "run") if r["stage"] == stage}


def test_the_reference_is_steered_and_stands_beside_its_plain_samples(tmp_path):
    launch("test", tmp_path, None, *FOUR)
    found = records(tmp_path)
    assert set(found) == {"base", "fk_4"}
    means = {method: record["metrics"]["Ink"]["mean"] for method, record in found.items()}
    assert means["fk_4"] > means["base"]
    cost = {name: found["fk_4"]["metrics"][name]["mean"] for name in ("network_calls", "reward_calls")}
    assert cost == {"network_calls": 4 * STEPS, "reward_calls": 4 * (3 + 1)}  # after 2, 4, 6 steps and at the end
    assert "network_calls" not in found["base"]["metrics"]
    assert found["fk_4"]["steered"]["particles"] == 4
    assert found["fk_4"]["steered"]["reward"] == "Ink"


def test_one_particle_is_the_plain_evaluation(tmp_path):
    launch("test", tmp_path / "plain")
    launch("test", tmp_path / "one", None, "--steer.particles=1")
    plain, one = (records(tmp_path / name)["pgraft@0.25"] for name in ("plain", "one"))
    assert plain["scores"] == one["scores"]
    assert "steered" not in one


def test_a_checkpoint_is_steered_and_its_fit_is_not(tmp_path):
    launch("fit", tmp_path, None, *FOUR)
    before = validations(tmp_path / "run")
    assert set(records(tmp_path, "validate")) == {"base", "pgraft@0.25"}
    launch("validate", tmp_path, None, "--ckpt_path=last", *FOUR)
    assert set(records(tmp_path, "validate")) == {"base", "pgraft@0.25", "pgraft@0.25+fk_4"}
    assert validations(tmp_path / "run") == before  # whose steps choose what a fit keeps
    launch("test", tmp_path, {"evaluate.method": "mine"}, "--ckpt_path=last", *FOUR)
    assert set(records(tmp_path)) == {"base", "mine"}


def test_predict_writes_the_samples_of_any_batch_size(tmp_path):
    for size in (2, 6):
        cli = launch("predict", tmp_path / str(size), {"data.eval_batch_size": size}, *FOUR)
        assert cli.model.steering is None  # given back when the command ended
    index = [(tmp_path / size / "run/samples/samples.jsonl").read_text().splitlines() for size in ("2", "6")]
    assert sorted(index[0]) == sorted(index[1])
    assert len(index[0]) == len(HELD_OUT)
    for line in map(json.loads, index[0]):
        small, large = ((tmp_path / size / "run/samples" / line["file"]).read_bytes() for size in ("2", "6"))
        assert small == large


def test_what_cannot_be_steered_is_refused(tmp_path, capsys):
    for changes, words, told in (
        ({"collect.reward": None}, FOUR, "steer.particles=4 needs a reward to follow"),
        ({"collect.reward": {"class_path": "tests.runs.Groupwise"}}, FOUR, "looks at all draws of a condition"),
        ({}, ("--steer.particles=0",), "steer.particles"),
        ({}, ("--steer.potential=product",), "potential"),
        ({}, ("--steer.temperature=0",), "steer.temperature"),
    ):
        with pytest.raises(SystemExit) as ended:
            launch("test", tmp_path, changes, *words)
        assert ended.value.code == 2
        assert told in capsys.readouterr().err


def test_another_reward_is_followed_and_the_trained_one_judges(tmp_path):
    launch("test", tmp_path, None, *FOUR, "--steer.reward=tests.runs.Paper")
    found = records(tmp_path)
    assert found["fk_4"]["metrics"]["Ink"]["mean"] < found["base"]["metrics"]["Ink"]["mean"]
    assert len(found["fk_4"]["scores"]["Ink"]) == SAMPLES // 2
    assert torch.tensor(found["fk_4"]["scores"]["Ink"]).isfinite().all()
