import json
import math

import pytest

from graft_lightning.reports.comparison import Run
from graft_lightning.reports.document import write_report
from graft_lightning.reports.paired import paired_verdicts, positive_verdicts
from graft_lightning.reports.records import record_table


def run(folder, method, seed, **values):
    return Run(folder, method, seed, "test", 0, values, {})


def test_paired_claims_look_at_differences_seed_by_seed(tmp_path):
    """Seeds differ by far more than methods do: only their pairs show that one is lower."""
    runs = []
    for seed, level in enumerate((1.0, 3.0, 9.0)):
        runs.append(run(tmp_path / f"{seed}/a", "a", seed, distance=level - 0.1 - 0.01 * seed, gigaflops=1.0))
        runs.append(run(tmp_path / f"{seed}/b", "b", seed, distance=level, gigaflops=1.1))
    lines, records = paired_verdicts(runs, [{"lower": "a", "than": ["b", "absent"]}], {"distance": "distance"}, "test")
    assert lines[0].startswith(
        "- a below b (distance): **holds**: -0.110 [-0.135, -0.085] over 3 seeds; fewer or equal"
    )
    assert [record["than"] for record in records] == ["b"]
    turned, _ = paired_verdicts(runs, [{"lower": "b", "than": ["a"]}], {"distance": "distance"}, "test")
    assert "**does not hold**" in turned[0]
    assert "more operations" in turned[0]
    above, (record,) = paired_verdicts(runs, [{"higher": "b", "than": ["a"]}], {"distance": "distance"}, "test")
    assert above[0].startswith("- b above a (distance): **holds**: +0.110")
    assert record["holds"]
    below, _ = paired_verdicts(runs, [{"higher": "a", "than": ["b"]}], {"distance": "distance"}, "test")
    assert "**does not hold**" in below[0]
    alone, _ = paired_verdicts(runs[:2], [{"lower": "a", "than": ["b"]}], {"distance": "distance"}, "test")
    assert "one seed shows nothing" in alone[0]


def test_a_figure_is_positive_only_with_its_interval():
    table = {"a": {"gain": {"mean": 0.02, "low": 0.01, "high": 0.03, "n": 5}},
             "b": {"gain": {"mean": 0.02, "low": -0.01, "high": 0.05, "n": 5}}}  # fmt: skip
    lines = positive_verdicts(table, [{"method": m, "metric": "gain"} for m in ("a", "b", "absent")], {})
    assert ["**holds**" in line for line in lines[:2]] == [True, False]
    assert len(lines) == 3  # and the empty one
    alone = {"a": {"gain": {"mean": 0.02, "low": math.nan, "high": math.nan, "n": 1}}}
    assert "one seed shows nothing" in positive_verdicts(alone, [{"method": "a", "metric": "gain"}], {})[0]


def test_records_are_joined_by_their_keys(tmp_path):
    for number, (steps, error) in enumerate(((10, 1.0), (5, 2.0), (10, 3.0))):
        (tmp_path / f"run-{number}").mkdir()
        record = {"steps": steps, "trip": {"median": error, "max": 10 * error}, "share": None if steps == 5 else 0.5}
        (tmp_path / f"run-{number}/found.json").write_text(json.dumps(record))
    wanted = {"files": "run-*/found.json", "by": ["steps"],
              "columns": {"trip.median": "median", "trip.max": "largest", "share": "share"}}  # fmt: skip
    lines, rows = record_table([tmp_path], wanted)
    assert lines[0] == "| steps | median | largest | share |"
    assert lines[2:4] == ["| 5 | 2 | 20 | - |", "| 10 | 2 | 30 | 0.5 |"]
    assert [row["steps"] for row in rows] == [5, 10]
    assert record_table([tmp_path], {**wanted, "files": "none/*.json"}) == ([], [])


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_report_of_quality_against_cost(tmp_path, seeds, drawn):
    for seed in range(seeds):
        for method, distance, cost in (("base-5", 2.0, 1.0), ("base-10", 1.0, 2.0), ("real", 0.3, None)):
            folder = tmp_path / f"seed-{seed}/{method}"
            folder.mkdir(parents=True)
            values = {"distance": distance + 0.01 * seed, **({"gigaflops": cost} if cost else {})}
            figures = {name: {"mean": v, "low": v, "high": v, "n": 1} for name, v in values.items()}
            record = {"stage": "test", "method": method, "step": 0, "seed": seed, "metrics": figures, "scores": {}}
            (folder / "evaluation.jsonl").write_text(json.dumps(record) + "\n")
    section = {
        "metrics": {"distance": "distance", "gigaflops": "GFLOP"},
        "split": {"few": ["real", "base-5", "absent"], "none": ["absent"]},
        "frontiers": {
            "Cost": {
                "x": "gigaflops",
                "y": "distance",
                "level": "real",
                "series": {"base": ["base-5", "base-10", "real"]},
            }
        },
        "paired": [{"lower": "base-10", "than": ["base-5"]}],
    }
    text = write_report([tmp_path], tmp_path / "out", section).read_text()
    assert "### few" in text
    assert "### none" not in text
    assert "| base-10 |" not in text
    assert (tmp_path / "out/frontier0.png").stat().st_size > 5000
    assert f"over {seeds} seeds" in text
