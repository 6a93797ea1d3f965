"""The sweep: cells run once, in order, in the settings of their chain; a failed one stops nobody."""

import json
import re
from pathlib import Path

import pytest
import yaml

import graft_lightning.cli.main
from graft_lightning.cli.main import main
from graft_lightning.cli.sweep import LOG, is_done, read_plan, run_chain, run_sweep

SWEEP = {
    "folder": "nowhere",
    "settings": {"data.pool": "{chain}/pool", "evaluate.baseline": False},
    "cells": {
        "base": {"commands": ["test"], "config": ["layer.yaml"], "settings": {"data.pool": None}},
        "graft": {"commands": ["fit", "test"], "config": ["layer.yaml"]},
    },
    "chains": [{"name": "seed-3", "seed": 3, "cells": ["base", "graft"], "settings": {"data.other": "{root}/shared"}}],
}


@pytest.fixture
def called(monkeypatch) -> list[list[str]]:
    """What the commands are called with; a fit leaves a checkpoint, as Lightning does."""
    calls: list[list[str]] = []

    def main(line):
        calls.append(line)
        print("said by", line[0])
        if line[0] == "fit":
            save_dir = next(a.split("=", 1)[1] for a in line if "save_dir" in a)
            (Path(save_dir) / "graft/checkpoints").mkdir()
            (Path(save_dir) / "graft/checkpoints/last.ckpt").touch()

    monkeypatch.setattr(graft_lightning.cli.main, "main", main)
    return calls


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("layer.yaml").write_text("model: {}\n")
    Path("sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    return lambda: read_plan(Path("sweep.yaml"), tmp_path / "runs").chains[0]


def test_a_chain_runs_its_cells_in_order_with_their_settings(plan, called):
    chain = plan()
    run_chain(chain)
    assert [line[0] for line in called] == ["test", "fit", "test"]
    base, fit, test = called
    assert "--seed_everything=3" in base
    assert not any(a.startswith("--data.pool") for a in base)  # null takes the common setting back
    assert f"--data.pool={chain.folder}/pool" in fit
    assert f"--data.other={chain.folder.parent}/shared" in fit
    assert "--evaluate.baseline=false" in fit
    assert f"--ckpt_path={chain.folder}/graft/checkpoints/last.ckpt" in test
    assert not any("ckpt_path" in a for a in [*base, *fit])
    assert (chain.folder / "graft" / LOG).read_text() == "said by fit\nsaid by test\n"


def test_what_is_done_is_not_done_again_until_something_changes(plan, called):
    run_chain(plan())
    run_chain(plan())
    assert len(called) == 3
    Path("layer.yaml").write_text("model: {other: 1}\n")
    assert not any(is_done(plan(), cell) for cell in plan().cells)
    run_chain(plan())
    assert len(called) == 6


def test_a_cell_that_was_interrupted_is_begun_afresh(plan, called):
    chain = plan()
    (chain.folder / "base").mkdir(parents=True)
    (chain.folder / "base/half.txt").touch()
    run_chain(chain)
    assert not (chain.folder / "base/half.txt").exists()


def test_a_failed_cell_is_told_and_stops_nobody(plan, called, monkeypatch, capsys):
    working = graft_lightning.cli.main.main

    def main(line):
        if line[0] == "test" and not any("ckpt_path" in a for a in line):
            raise ValueError("no such reward")
        working(line)

    monkeypatch.setattr(graft_lightning.cli.main, "main", main)
    chain = plan()
    run_chain(chain)
    assert [is_done(chain, cell) for cell in chain.cells] == [False, True]
    assert "no such reward" in (chain.folder / "base" / LOG).read_text()
    assert "seed-3/base failed" in capsys.readouterr().err
    assert json.loads((chain.folder / "graft/done.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jobz": 2}, "unknown keys.*jobz"),
        (
            {"cells": {"base": {"commands": ["test"], "config": [], "setings": {}}}},
            "cell base has unknown keys.*setings",
        ),
        ({"model": {}}, "unknown keys.*model.*this is the configuration of one run, for `fit`"),
        ({"chains": [{"name": "a", "seed": 0, "cells": ["grafd"]}]}, "chain a asks for cells.*grafd.*graft"),
    ],
    ids=["key", "cell", "run", "chain"],
)
def test_a_mistaken_sweep_is_refused(plan, capsys, change, message):
    Path("sweep.yaml").write_text(yaml.safe_dump({**SWEEP, **change}))
    with pytest.raises(ValueError, match=message):
        plan()
    with pytest.raises(SystemExit, match="2"):
        run_sweep(["sweep.yaml"])
    assert re.search(message, capsys.readouterr().err)


def test_a_sweep_given_to_fit_is_told_from_a_run(plan, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--config", "sweep.yaml"])
    assert "describes many runs: python -m graft_lightning sweep sweep.yaml" in capsys.readouterr().err
