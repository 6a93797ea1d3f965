"""Runs of several rounds say what each has spent of divergence; a report shows it."""

import json

import pytest

from graft_lightning.reports.round_kl import round_kl_section
from graft_lightning.runs import ROUNDS, append_record, read_records
from tests.runs import launch


def rounds_of(folder):
    return {r["round"]: r for r in read_records(folder, ROUNDS)}


def test_each_of_two_rounds_is_measured(tmp_path, capfd):
    changes = {"collect.rounds": 2, "trainer.max_steps": 20, "model.handoff": 0.0, "collect.draws": 8}
    launch("fit", tmp_path, changes)
    found = rounds_of(tmp_path / "run")
    assert {number: record["step"] for number, record in found.items()} == {0: 5, 1: 20}
    for number, name in ((0, "collected.json"), (1, "collected-1.json")):
        spent = found[number]["spent"]
        assert spent["kl_asked"] == json.loads((tmp_path / "run" / name).read_text())["implied"]["kl"]
        assert spent["low"] < spent["kl_taken_up"] < spent["high"]
    assert found[1]["spent"]["kl_taken_up"] > 0, "15 steps on 8 samples follow these"
    assert "nats asked for by the rule" in capfd.readouterr().err
    lines, record = round_kl_section([tmp_path])
    assert [row["round"] for row in record["round_kl"]] == [0, 1, "all"]
    assert f"| graft | 1 | {found[1]['spent']['kl_asked']:.2f} | {found[1]['spent']['kl_taken_up']:.2f} |" in lines


def test_one_round_spends_nothing_on_it(tmp_path):
    launch("fit", tmp_path)
    assert rounds_of(tmp_path / "run") == {}
    assert round_kl_section([tmp_path]) == ([], {})


def test_a_run_that_is_cut_measures_the_same(tmp_path):
    changes = {"collect.rounds": 2, "trainer.limit_val_batches": 0}
    launch("fit", tmp_path / "whole", {**changes, "trainer.max_steps": 15})
    launch("fit", tmp_path / "cut", {**changes, "trainer.max_steps": 10})
    launch("fit", tmp_path / "cut", {**changes, "trainer.max_steps": 15}, "--ckpt_path=last")
    (folder,) = [f for f in (tmp_path / "cut").glob("run*") if 15 in {r["step"] for r in rounds_of(f).values()}]
    whole, cut = rounds_of(tmp_path / "whole/run")[1]["spent"], rounds_of(folder)[1]["spent"]
    assert cut == pytest.approx(whole, rel=1e-4, abs=1e-6)


def test_of_a_round_that_was_measured_twice_the_last_counts(tmp_path):
    for value in (1.0, 2.0):
        record = {"stage": "fit", "method": "graft", "step": 5, "round": 0}
        append_record(tmp_path / "a", ROUNDS, {**record, "spent": {"kl_asked": 0.5, "kl_taken_up": value}})
    row, total = round_kl_section([tmp_path])[1]["round_kl"]
    assert row["kl_taken_up"]["mean"] == total["kl_taken_up"]["mean"] == 2.0
