"""Reward at equal budget, by hand."""

import json

import pytest

from graft_lightning.reports.budgets import at_equal, budget_section, points_of
from graft_lightning.reports.comparison import Run
from graft_lightning.reports.document import write_report
from graft_lightning.runs import EVALUATIONS, SPENT, append_record


def run(method, seed, step, value, **spent):
    return Run(f"{method}-{seed}", method, seed, "validate", step, {"reward": value}, {}, spent)


RUNS = [
    run("base", 0, 0, 0.1),
    run("graft", 0, 10, 0.3, samples=100, reward_calls=100, forward_backward=640),
    run("graft", 1, 10, 0.5, samples=100, reward_calls=100, forward_backward=640),
    run("graft", 0, 20, 0.6, samples=100, reward_calls=100, forward_backward=1280),
    run("graft", 1, 20, 0.8, samples=100, reward_calls=100, forward_backward=1280),
    run("ddpo", 0, 10, 0.2, samples=50, reward_calls=50, forward_backward=1000),
    run("ddpo", 0, 20, 0.4, samples=200, reward_calls=200, forward_backward=2000),
]


def test_seeds_are_taken_together_and_budgets_stand_in_order():
    found = points_of(RUNS, "reward", "forward_backward")
    assert [(spent, metric["mean"]) for spent, metric in found["graft"]] == [(640, 0.4), (1280, pytest.approx(0.7))]
    assert list(found) == ["graft", "ddpo"]
    assert points_of(RUNS, "other", "samples") == {}


def test_the_last_evaluation_within_the_largest_budget_that_all_have_reached():
    equal, rows = at_equal(points_of(RUNS, "reward", "forward_backward"))
    assert equal == 1280
    assert {method: metric["mean"] for method, metric in rows.items()} == pytest.approx({"graft": 0.7, "ddpo": 0.2})
    equal, rows = at_equal(points_of(RUNS, "reward", "samples"))
    assert equal == 100
    assert {method: metric["mean"] for method, metric in rows.items()} == pytest.approx({"graft": 0.7, "ddpo": 0.2})
    late = [*RUNS, run("late", 0, 10, 0.9, samples=150)]
    assert "late" not in at_equal(points_of(late, "reward", "samples"))[1]


def test_charts_table_and_record(tmp_path, drawn):
    lines, record = budget_section(RUNS, "reward", "Reward", tmp_path)
    text = "\n".join(lines)
    for budget in ("samples", "reward_calls", "forward_backward"):
        assert (tmp_path / f"budget-{budget}.png").stat().st_size > 10_000
    assert "| method | at 100 samples drawn | at 100 reward calls | at 1,280 forward-and-backward calls |" in text
    assert "| graft | 0.700 | 0.700 | 0.700 |" in text
    assert "| ddpo | 0.200 | 0.200 | 0.200 |" in text
    assert record["budgets"]["samples"]["ddpo"][1]["spent"] == 200
    assert budget_section(RUNS[:1], "reward", "Reward", tmp_path) == ([], {})


def test_where_all_have_spent_as_much_there_is_no_picture(tmp_path):
    """One pool for all runs: the curve would be a vertical line. Table and record stay."""
    shared = [one for one in RUNS if one.method in ("base", "graft")]
    lines, record = budget_section(shared, "reward", "Reward", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["budget-forward_backward.png"]
    assert [line for line in lines if line.startswith("![")] == [
        "![Reward against forward-and-backward calls, one sample each](budget-forward_backward.png)"
    ]
    assert record["budgets"]["samples"]["graft"][0]["spent"] == 100


def test_a_report_reads_what_runs_have_recorded(tmp_path):
    for method in ("graft", "rwr"):
        for step in (5, 10):
            keys = {"stage": "validate", "method": method, "step": step}
            metrics = {"reward": {"mean": step / 10, "low": 0.0, "high": 1.0, "n": 3}}
            evaluation = {**keys, "seed": 0, "metrics": metrics, "scores": {"reward": [[step / 10]]}}
            append_record(tmp_path / "runs" / method, EVALUATIONS, evaluation)
            append_record(
                tmp_path / "runs" / method, SPENT, {**keys, "spent": {"samples": 8, "forward_backward": step}}
            )
    report = write_report([tmp_path / "runs"], tmp_path / "report", {"stage": "validate"})
    assert "at 10 forward-and-backward calls" in report.read_text()
    assert "reward_calls" not in json.loads(report.with_name("report.json").read_text())["budgets"]
