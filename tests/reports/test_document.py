import json
import math

import pytest

from graft_lightning.cli.main import main
from graft_lightning.reports.claims import verdicts
from graft_lightning.reports.document import write_report
from graft_lightning.reports.tables import written
from graft_lightning.runs import CHOSEN
from tests.reports.test_comparison import write_run

METRICS = {"reward": "reward"}


def figure(low, high):
    return {"mean": (low + high) / 2, "low": low, "high": high, "n": 3}


@pytest.mark.parametrize(
    ("base", "control", "verdict"),
    [
        ((0.1, 0.2), (0.2, 0.3), "**holds**"),
        ((0.1, 0.5), (0.2, 0.3), "**does not hold** against base"),
        ((0.1, 0.4), (0.2, 0.3), "**does not hold** against base"),  # ends that touch do not suffice
        ((0.1, 0.5), (0.2, 0.6), "**does not hold** against base, control"),
    ],
)
def test_a_claim_stands_only_where_the_intervals_are_apart(base, control, verdict):
    table = {name: {"reward": figure(*ends)} for name, ends in
             {"graft": (0.4, 0.6), "base": base, "control": control}.items()}  # fmt: skip
    lines = verdicts(table, [{"better": "graft", "than": ["base", "control"]}], METRICS)
    assert lines[0] == f"- graft above base, control (reward): {verdict}."
    assert verdicts(table, [{"better": "missing", "than": ["base"]}], METRICS) == []


def test_an_interval_that_is_not_known_supports_no_claim():
    nan = float("nan")
    table = {"graft": {"reward": figure(0.5, 0.6)}, "base": {"reward": {"mean": 0.1, "low": nan, "high": nan, "n": 1}}}
    claims = [{"better": "graft", "than": ["base"]}, {"better": "base", "than": ["graft"]}]
    assert all("does not hold" in line for line in verdicts(table, claims, METRICS)[:2])


def test_a_figure_in_words():
    """Diversity of one sample a condition is no number, and a reader is not shown one."""
    unknown = {"low": math.nan, "high": math.nan}
    assert written({"mean": 0.25, "low": 0.2, "high": 0.3}) == "0.250 [0.200, 0.300]"
    assert written({"mean": 0.25, **unknown}) == "0.250"
    assert written({"mean": math.nan, **unknown}) == "–"


def test_a_report_of_two_runs(tmp_path):
    for seed in range(3):
        write_run(tmp_path / f"s{seed}/base", "base", seed, [[0.1 + 0.01 * seed] * 2] * 3, step=0)
        write_run(tmp_path / f"s{seed}/graft", "graft", seed, [[0.5 + 0.01 * seed] * 2] * 3)
    section = {"best_of_n": [2], "claims": [{"better": "graft", "than": ["base", "best_of_2"]}]}
    path = write_report([tmp_path], tmp_path / "out", section)
    report = json.loads((path.parent / "report.json").read_text())
    assert report["graft"]["reward"] == pytest.approx(
        {"mean": 0.51, "low": 0.51 - 4.302653 * 0.01 / 3**0.5, "high": 0.51 + 4.302653 * 0.01 / 3**0.5, "n": 3}
    )
    assert set(report) == {"base", "graft", "best_of_2"}
    text = path.read_text()
    assert "| graft | 0.510 [0.485, 0.535] |" in text
    assert "over seeds, at the same held-out conditions" in text
    assert "3 seeds, 3 held-out conditions, 2 samples each" in text
    # all conditions alike here, so that the interval over them has no width and is left out
    assert "| method | over seeds, conditions fixed | over held-out conditions, seeds fixed |" in text
    assert "| graft | 0.510 [0.485, 0.535] | 0.510 |" in text
    assert report["graft"]["reward, over conditions"] == pytest.approx(
        {"mean": 0.51, "low": 0.51, "high": 0.51, "n": 3}
    )
    assert "graft above base, best_of_2 (reward): **holds**" in text
    assert (path.parent / "comparison.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("seeds", "scores", "words"),
    [
        (1, [[0.1, 0.2], [0.5, 0.9]], "over held-out conditions (too few seeds for an interval over seeds), at these"),
        (2, [[0.1, 0.2]], "over samples (too few seeds for an interval over seeds), at these seeds"),
        (1, [[0.1, 0.2]], "1 seed, 1 held-out condition, 2 samples each"),
        (3, [[0.1, 0.2]], "| method | over seeds, samples fixed | over held-out samples, seeds fixed |"),
    ],
)
def test_a_report_says_what_its_intervals_are_over(tmp_path, seeds, scores, words):
    for seed in range(seeds):
        write_run(tmp_path / f"s{seed}", "graft", seed, scores)
    text = write_report([tmp_path], tmp_path / "out", {}).read_text()
    assert words in text
    assert ("Both intervals" in text) == (seeds == 3)


def test_report_json_is_json(tmp_path):
    """NaN is none of its values."""
    write_run(tmp_path / "run", "graft", 0, [[0.5]])
    write_report([tmp_path], tmp_path, {})

    def refuse(constant):
        raise AssertionError(constant)

    json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)


def test_the_command(tmp_path, capsys):
    write_run(tmp_path / "run", "graft", 0, [[0.5, 0.6], [0.1, 0.2]])
    main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--title", "Mine"])
    assert "report.md" in capsys.readouterr().out
    assert (tmp_path / "out/report.md").read_text().startswith("# Mine")
    with pytest.raises(SystemExit) as exit_:
        main(["report", str(tmp_path / "nothing")])
    assert exit_.value.code == 2
    assert "has a run been evaluated" in capsys.readouterr().err


def test_alarms_of_the_last_evaluation_are_listed(tmp_path):
    write_run(tmp_path / "s0/graft", "graft", 0, [[0.5, 0.5]] * 3)
    write_run(tmp_path / "s1/graft", "graft", 1, [[0.5, 0.5]] * 3)
    rows = [
        ("validate", "base", 0, {"blank": "the base's own"}),
        ("validate", "graft", 5, {"change": "of an earlier step"}),
        ("validate", "graft", 10, {"diversity": "half as far apart"}),
        ("test", "graft", 10, {}),
    ]
    lines = [json.dumps({"stage": s, "method": m, "step": n, "metrics": {}, "alarms": a}) for s, m, n, a in rows]
    (tmp_path / "s0/graft/alarms.jsonl").write_text("\n".join(lines) + '\n{"stage": "te')
    path = write_report([tmp_path], tmp_path / "out", {})
    expected = {"s0/graft, validate of graft at step 10": ["half as far apart"]}
    assert json.loads((path.parent / "report.json").read_text())["alarms"] == expected
    assert "## Alarms" in path.read_text()
    assert "- s0/graft, validate of graft at step 10: half as far apart" in path.read_text()
    (tmp_path / "s0/graft/alarms.jsonl").unlink()
    assert "Alarms" not in write_report([tmp_path], tmp_path / "out", {}).read_text()


def test_a_group_with_a_metric_of_its_own_has_its_own_picture_and_claims(tmp_path):
    """As of two rewards in one sweep: nothing of the second stands under the name of the first."""
    for seed in range(3):
        for chain, metric, gain in (("a", "reward", 0.4), ("b", "other", -0.4)):
            folder = tmp_path / f"{chain}-{seed}"
            write_run(folder / "base", "base", seed, [[0.5 + 0.01 * seed] * 2] * 3, step=0, metric=metric)
            scores = [[0.5 + (0.01 + gain / 10) * seed + gain] * 2] * 3
            write_run(folder / "graft", "graft", seed, scores, metric=metric)
    section = {
        "groups": {"first": "a-", "second": "b-"},
        "metrics": {"reward": "the one", "other": "the other"},
        "paired": [{"higher": "graft", "than": ["base"], "metric": name} for name in ("reward", "other")],
    }
    path = write_report([tmp_path], tmp_path / "out", section)
    report, text = json.loads((path.parent / "report.json").read_text()), path.read_text()
    assert "![the one by method](comparison.png)" in text
    assert "![the other by method](comparison1.png)" in text
    assert [claim["holds"] for claim in report["paired"]] == [True]
    assert [claim["holds"] for claim in report["second: paired"]] == [False]
    assert report["second: paired"][0]["mean"] == pytest.approx(-0.44)


def test_a_group_without_the_methods_of_a_chart_has_no_empty_one(tmp_path):
    for chain, method in (("a-0", "graft"), ("b-0", "ode graft")):
        write_run(tmp_path / chain / "run", method, 0, [[0.5, 0.6]] * 3)
    chart = {"x": "reward", "y": "reward", "series": {"GRAFT": ["graft"]}, "scale": "linear"}
    section = {"groups": {"First": "a-", "Second": "b-"}, "frontiers": {"Gain and price": chart}}
    text = write_report([tmp_path], tmp_path / "out", section).read_text()
    assert text.count("### Gain and price") == 1
    assert sorted(file.name for file in (tmp_path / "out").glob("frontier*")) == ["frontier0.png"]


def test_every_group_says_what_it_has_chosen(tmp_path):
    for chain, lr in (("a-0", 0.1), ("b-0", 0.2)):
        folder = tmp_path / chain / "graft"
        write_run(folder, "graft", 0, [[0.5, 0.6]] * 3)
        choice = {"chosen": {"model.lr": lr}, "tried": [{"model.lr": lr, "reward": 0.5}]}
        (folder / CHOSEN).write_text(json.dumps(choice))
    path = write_report([tmp_path], tmp_path / "out", {"groups": {"First": "a-", "Second": "b-"}})
    report = json.loads((path.parent / "report.json").read_text())
    assert report["chosen"]["graft"]["chosen"] == {"model.lr": 0.1}
    assert report["Second: chosen"]["graft"]["chosen"] == {"model.lr": 0.2}
    first, second = path.read_text().split("## Second")
    assert "| graft | lr 0.1 |" in first
    assert "| graft | lr 0.2 |" in second
