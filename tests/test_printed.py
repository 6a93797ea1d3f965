"""What is printed in Markdown is what the committed reports say, and these are what their records give."""

import json
import shutil

import pytest
import yaml

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
    assert yaml.safe_dump(found) == yaml.safe_dump(expected)
