"""`make full-size` is run by hand, for hours; here that it goes on where it ended, and its whole path cut down."""

import importlib
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tests.full_size import __main__ as full_size
from tests.full_size import sizes
from tests.full_size.cells import CELLS, Setting, Step
from tests.full_size.running import Measured, planned, run_cell
from tests.full_size.table import table

ROOT = Path(__file__).parents[1]
STEPS = [Step("make it", "m", []), Step("plan", "m", []), Step("fit", "m", [])]
PLAN = "  peak memory      about 7.25 GB of 25 GB\n  time             about 5.5 min on this machine: training 3 s"


class Fake:
    """Runs nothing: each step takes a second, and ends as it is told to."""

    def __init__(self, **codes):
        self.codes, self.ran = codes, []

    def __call__(self, step, log):
        self.ran.append(step.name)
        return Measured(1.0, 2.0, 0.5, self.codes.get(step.name, 0), PLAN)


def test_what_is_done_stays_done_and_a_failure_ends_a_cell(tmp_path):
    setting = Setting(tmp_path / "cell", True, "cpu")
    first, second, third = Fake(plan=1), Fake(), Fake()
    assert run_cell("cell", STEPS, setting, first)["plan"]["code"] == 1
    assert first.ran == ["make it", "plan"]
    record = run_cell("cell", STEPS, setting, second)
    assert second.ran == ["plan", "fit"]
    assert record["plan"]["planned_gigabytes"] == 7.25
    assert record["plan"]["planned_seconds"] == 330
    assert "gigabytes" not in record["plan"], "a plan has the system forget how large it was"
    assert record["fit"]["gigabytes"] == 0.5
    assert run_cell("cell", STEPS, setting, third) == record
    assert third.ran == []
    (setting.folder / "record.json").write_text(json.dumps({k: v for k, v in record.items() if k != "plan"}))
    assert list(run_cell("cell", STEPS, setting, Fake())) == ["make it", "plan", "fit"], "run anew, in its place"


def test_a_plan_that_states_nothing_foretells_nothing():
    assert planned("  time             not measured: it does not fit") == {}


def test_the_table_sets_what_was_foretold_beside_the_fit(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run_cell("sd2", STEPS, Setting(tmp_path / "sd2", True, "cpu"), Fake(fit=3))
    found = full_size.main([f"--folder={tmp_path}", "--cells", "sd2", "--device=cpu"], Fake())
    assert json.loads((tmp_path / "full_size.json").read_text()) == json.loads(json.dumps(found))
    rows = table(found).splitlines()
    assert "| fit | 0.0 | 0.0 | 0.50 GB | 7.25 GB, 5.5 min |" in next(row for row in rows if "| fit |" in row)


@pytest.mark.parametrize("name", sizes.IDS)
def test_the_sizes_are_those_that_are_published(name):
    """Millions of weights of the text encoders, counted from the configurations."""
    import torch
    import transformers

    published = {"sd2": [340.4], "sdxl": [123.1, 694.7], "sd3": [123.7, 694.7]}
    for (kind, config), millions in zip(sizes.text_encoders(name), published[name], strict=True):
        with torch.device("meta"):
            network = getattr(transformers, kind)(transformers.CLIPTextConfig(**config, vocab_size=sizes.VOCABULARY))
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def in_this_process(step, log):
    """A step without a process of its own; its server is a thread."""
    printed = io.StringIO()
    code = 0
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            if step.module == "graft_lightning":
                importlib.import_module("graft_lightning.cli.main").main(step.arguments)
            else:
                kind, folder, *_ = step.arguments
                importlib.import_module(step.module).make(kind, Path(folder), tiny=True)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Measured(1.0, 1.0, 0.5, code, printed.getvalue())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd2", "sd3", "images", "ddpm", "molecules"])
def test_a_cell_runs_small(name, tmp_path, monkeypatch, test_data):
    monkeypatch.chdir(ROOT)
    setting = Setting(tmp_path / name, True, "cpu", test_data / "qm7_xyz" / "qm7_xyz.tar.gz")
    steps = CELLS[name][1](setting)
    record = run_cell(name, steps, setting, in_this_process)
    assert [row["code"] for row in record.values()] == [0] * len(steps), record
    plans = [row for step, row in record.items() if step.startswith("plan")]
    assert plans
    assert all(0.6 <= row["planned_gigabytes"] < 2 for row in plans)


def test_the_memory_of_a_server_is_recorded_beside_that_of_its_step(tmp_path):
    def run(step, log):
        return Measured(60.0, 30.0, 8.5, 0, "", beside=6.25)

    record = run_cell("clip_flant5", [Step("fit", "m", [], ("server",))], Setting(tmp_path, True, "cpu"), run)
    found = {"cells": {"clip_flant5": record}, "card": None, "machine": "", "date": "", "threads": 1, "torch": ""}
    assert "| fit | 1.0 | 0.5 | 8.50 GB and 6.25 GB of the server |" in table({**found, "tiny": False})
