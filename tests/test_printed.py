"""What is printed in Markdown is what the committed reports say, and these are what their records give."""

import json
import shutil

import pytest

from graft_lightning.cli.main import main
from tests.printed import ROOT, marked_files, table, tables, write

REPORTS = sorted((ROOT / "experiments").rglob("records/*/report.json"))


@pytest.mark.parametrize("file", marked_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_table_is_what_its_report_says(file):
    for printed, expected in tables(file):
        assert printed == expected, "make tables writes it anew"


def test_a_table_that_differs_is_found_and_written_anew(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps({"a": {"Score": {"mean": 0.12345, "low": -1.0, "high": 2.0}}}))
    asked = "<!-- table\nreport: report.json\ncolumns: {score: Score 3 interval}\nrows: {the a: a}\n-->\n\n"
    file = tmp_path / "page.md"
    file.write_text(f"{asked}| method | score |\n|---|---|\n| the a | 0.124 [-1.000, 2.000] |\n\nmore\n")
    ((printed, expected),) = tables(file)
    assert printed != expected
    assert write(file) == 1
    assert file.read_text() == f"{asked}| method | score |\n|---|---|\n| the a | 0.123 [-1.000, 2.000] |\n\nmore\n"
    with pytest.raises(KeyError, match="a has no Other; there are Score"):
        table({"report": "report.json", "columns": {"x": "Other 1"}, "rows": {"a": "a"}}, tmp_path)
    (tmp_path / "report.json").write_text(json.dumps({"map": {"a/b": {"x": {"mean": 0.126}}}}))
    columns = {"x": "x 2 signed", "y": "y 2 optional"}
    nested = table({"report": "report.json", "columns": columns, "rows": {"it": ["map", "a/b"]}}, tmp_path)
    assert nested.endswith("| it | +0.13 |  |\n")
    (tmp_path / "other.json").write_text(json.dumps({"b": {"c": {"x": {"mean": 0.126, "low": -0.05, "high": 0.3}}}}))
    asked = {"columns": {"x": "x 0 interval percent"}, "rows": {"it": ["other.json", "b", "c"]}}
    assert table(asked, tmp_path).endswith("| it | 13 % [-5 %, 30 %] |\n")


@pytest.mark.slow
@pytest.mark.parametrize("report", REPORTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_report_is_what_its_records_give(report, tmp_path, monkeypatch):
    """All cells are read as done from the records, and the figures computed anew from the scores of every sample."""
    shutil.copytree(report.parent, tmp_path / "records")
    sweep = report.parents[2] / f"{report.parent.name}.yaml"
    monkeypatch.chdir(ROOT)
    expected = json.loads(report.read_text(encoding="utf-8"))
    chains = sorted(file.name for file in report.parent.iterdir() if file.is_dir())
    (tmp_path / "records" / "report.json").unlink()
    line = ["sweep", str(sweep), f"--folder={tmp_path / 'runs'}", f"--records={tmp_path / 'records'}"]
    main([*line, "--only", *chains])
    found = json.loads((tmp_path / "runs" / "report.json").read_text(encoding="utf-8"))
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)  # NaN too


README = (ROOT / "experiments/README.md").read_text(encoding="utf-8")


def rows_below(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of the experiments' README, without its first two lines."""
    lines = README.split(f"## {heading}")[1].split("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]


def test_the_table_of_full_sizes_is_what_its_record_says():
    """Minutes, core-minutes and memory of a step, and what was foretold with the difference in per cent."""
    found = json.loads((ROOT / "experiments/full_size.json").read_text(encoding="utf-8"))
    steps = {}
    for cell in found["cells"].values():
        planned: dict = {}
        for name, step in cell.items():
            if name.startswith("plan"):
                planned = step
            elif "gigabytes" in step and not name.startswith("make"):
                figures = (
                    f"{step['seconds'] / 60:.1f}",
                    f"{step['core_seconds'] / 60:.1f}",
                    f"{step['gigabytes']:.2f}",
                )
                steps[figures], planned = (step, planned), {}
    rows = rows_below("Full size")
    assert len(rows) == len(steps)
    for *_, minutes, core_minutes, memory, foretold in rows:
        step, planned = steps.pop((minutes, core_minutes, memory.split()[0]))
        assert ("server" in memory) == ("beside" in step)
        if "server" in memory:
            assert f"and {step['beside']:.2f} GB of its server" in memory
        expected = ""
        if planned:
            more = planned["planned_gigabytes"] / step["gigabytes"] - 1
            minutes = planned["planned_seconds"] / 60
            expected = f"{planned['planned_gigabytes']:.2f} GB ({round(100 * more):+d} %), {minutes:.1f} min"
        assert foretold == expected
    assert not steps


def test_the_table_of_steps_is_what_the_bench_has_written():
    found = json.loads((ROOT / "experiments/bench.json").read_text(encoding="utf-8"))["free_networks"]
    rows = rows_below("What a step costs")
    assert len(rows) == len(found)
    for (state, *printed), (name, case) in zip(rows, found.items(), strict=True):
        assert state.startswith(name)
        figures = [case[what][key] for what in ("sampling", "training") for key in ("ours", "bare", "ratio")]
        said = [number for cell in printed for number in cell.split(", ")]
        assert len(said) == 7
        for text, figure in zip(said, [*figures, case["training"]["lightning"]], strict=True):
            places = len(text.partition(".")[2])
            assert text == f"{figure:.{places}f}", (state, text)


def test_the_throughput_of_pipelines_is_what_the_bench_has_written():
    found = json.loads((ROOT / "experiments/bench.json").read_text(encoding="utf-8"))["pipelines"].values()
    said = (ROOT / "experiments/text_to_image/README.md").read_text(encoding="utf-8")
    assert f"runs at {min(found):.2f} to {max(found):.2f} times the" in said


def test_what_is_said_of_the_digits_network_is_what_the_bench_has_written():
    found = json.loads((ROOT / "experiments/bench.json").read_text(encoding="utf-8"))
    digits, around = found["digits"], found["around"]
    said = " ".join(README.split("## What a step costs")[1].split())
    above = digits["training_ms_ours"] - digits["training_ms_bare"]
    assert f"sampling has {digits['sampling']:.2f} of a bare loop's throughput" in said
    assert f"training {digits['training']:.2f} (goal 0.95)" in said
    assert f"Of the {above:.1f} ms" in said
    assert f"a bare one of {digits['training_ms_bare']:.1f} ms" in said
    assert (
        f"read in {digits['pool_read_ms']:.1f}, levels and noise are drawn in {digits['levels_and_noise_ms']:.1f}"
        in said
    )
    assert f"{around['overlap']:.2f} seconds of decoding and judging" in said
    assert f"at {around['efficiency']:.2f} of twice one's rate" in said
