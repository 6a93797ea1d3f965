"""A report shows "no gain" where a run has returned the base, and never a smaller number in its place."""

import json
import re

import pytest

from graft_lightning.reports.document import write_report


def write_run(folder, method, reward, kept=None, seed=0):
    folder.mkdir(parents=True)
    row = {
        "stage": "test",
        "method": method,
        "step": 0 if method == "base" else 100,
        "seed": seed,
        "metrics": {"r": {"mean": reward, "low": reward - 0.01, "high": reward + 0.01, "n": 2}},
        "scores": {"r": [[reward - 0.01, reward + 0.01], [reward, reward]]},
    }
    (folder / "evaluation.jsonl").write_text(json.dumps(row) + "\n")
    if kept is not None:
        (folder / "kept.json").write_text(json.dumps({"kept": kept, "reward": "r", "cause": "too few accepted"}))


def row_of(text, method):
    return re.search(rf"^\| {re.escape(method)} \| (.*?) \|$", text, re.M)[1]


def test_a_run_that_returned_the_base_shows_no_number(tmp_path):
    write_run(tmp_path / "base", "base", 0.43)
    write_run(tmp_path / "graft", "graft", 0.43, "base")
    write_run(tmp_path / "pgraft", "pgraft@0.25", 0.6, "weights")
    text = write_report([tmp_path], tmp_path / "out", {}).read_text()
    assert row_of(text, "graft") == "no gain"
    assert row_of(text, "pgraft@0.25").startswith("0.600")
    assert row_of(text, "base").startswith("0.430")
    assert "- graft: no gain, the base was returned. Likely cause: too few accepted." in text
    assert json.loads((tmp_path / "out/report.json").read_text())["no_gain"] == ["graft"]


def test_of_several_seeds_the_mean_stays_and_the_count_is_told(tmp_path):
    for seed, kept in enumerate(["base", "weights", "base"]):
        write_run(tmp_path / f"graft-{seed}", "graft", 0.4 + 0.1 * seed, kept, seed)
    text = write_report([tmp_path], tmp_path / "out", {}).read_text()
    assert row_of(text, "graft").startswith("0.500")
    assert "- graft: no gain in 2 of 3 runs" in text


@pytest.mark.parametrize("written", ["", "{", "[]", "{}"])
def test_a_mark_that_cannot_be_read_is_none(tmp_path, written):
    write_run(tmp_path / "graft", "graft", 0.43)
    (tmp_path / "graft/kept.json").write_text(written)
    text = write_report([tmp_path], tmp_path / "out", {}).read_text()
    assert row_of(text, "graft").startswith("0.430")
