"""Chains as jobs of a cluster: submitit's local executor runs them as SLURM would."""

import json
import os
import pickle
import sys
from pathlib import Path

import pytest
import yaml

from graft_lightning.cli.chain import Cell, CellChain, is_done, is_present
from graft_lightning.cli.main import main
from graft_lightning.cli.submitted import ChainJob, SubmittedChain, jobs_of_a_cluster
from graft_lightning.cli.sweep_file import read_plan
from graft_lightning.runs import LOG

submitit = pytest.importorskip("submitit")
ROOT = Path(__file__).parents[2]

SWEEP = {
    "folder": "runs",
    "jobs": 2,
    "cells": {"one": {"commands": ["test"], "config": ["layer.yaml"]}},
    "chains": [{"name": name, "seed": seed, "cells": ["one"]} for seed, name in enumerate("ab")],
}

# what takes seconds, stands in for it in the processes of cells
STAND_IN = """
import sys
if "cell" in sys.orig_argv:
    import graft_lightning.cli.cell

    def main():
        if sys.argv[1:2] == ["test"] and "--seed_everything=1" in sys.argv:
            raise SystemExit(3)

    graft_lightning.cli.cell.main = main
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("layer.yaml").write_text("model: {}\n")
    Path("sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    Path("sitecustomize.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))


@pytest.mark.slow
def test_a_sweep_is_run_by_jobs(sweep, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["sweep", "sweep.yaml", "--launcher=submitit", "--submitit", "cluster=local", "timeout_min=5"])
    done = {f"{c.name}/{cell.name}": is_done(c, cell) for c in read_plan(Path("sweep.yaml")).chains for cell in c.cells}
    log = Path("runs/a/one", LOG).read_text() if Path("runs/a/one", LOG).exists() else "no log"
    assert done == {"a/one": True, "b/one": False}, log
    printed = capsys.readouterr()
    assert "failed: b/one" in printed.err
    assert "a: job " in printed.out
    facts = json.loads(Path("records/sweep/a/one.json").read_text())["facts"]
    assert facts["seed"] == 0
    assert facts["core_seconds"] > 0


class Executor:
    """Remembers what was submitted."""

    def __init__(self):
        self.jobs = []

    def submit(self, job):
        self.jobs.append(job)
        return Job(len(self.jobs))


class Job:
    def __init__(self, number):
        self.job_id, self.ended, self.cancelled, self.error = str(number), False, False, None

    @property
    def paths(self):
        return type("Paths", (), {"stderr": "there.err"})

    def done(self):
        return self.ended

    def exception(self):
        return self.error

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def chain(tmp_path):
    layer = tmp_path / "layer.yaml"
    layer.write_text("model: {}\n")
    return CellChain("a", 0, [Cell("one", ["test"], [str(layer)])], tmp_path / "a", 1)


def test_a_job_is_submitted_when_what_it_needs_is_there(chain, capsys):
    executor, there = Executor(), []
    submitted = SubmittedChain(executor, chain, chain.cells, lambda cell: bool(there))
    assert submitted.step()
    assert executor.jobs == []
    there.append(1)
    assert submitted.step()
    assert [job.cells for job in executor.jobs] == [list(chain.cells)]
    assert submitted.step()
    submitted._job.ended, submitted._job.error = True, RuntimeError("out of memory")
    assert not submitted.step()
    assert "a: job 1 failed, see there.err" in capsys.readouterr().err
    submitted.stop()
    assert submitted._job.cancelled


def test_a_preempted_job_goes_back_into_the_queue_and_goes_on(chain, monkeypatch):
    ran = []
    monkeypatch.setattr("graft_lightning.cli.submitted.run_chain", lambda chain, cells: ran.append(list(cells)))
    job = pickle.loads(pickle.dumps(ChainJob(chain, chain.cells)))
    delayed = job.checkpoint()
    assert isinstance(delayed, submitit.helpers.DelayedSubmission)
    assert delayed.function is job
    assert job() == ["one"]
    monkeypatch.setattr("graft_lightning.cli.submitted.is_present", lambda chain, cell: True)
    assert delayed.function() == []
    assert ran == [list(chain.cells), []]
    assert not is_present(chain, chain.cells[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cluster": "pbs"}, "cluster=pbs; it is slurm, or local"),
        ({"cluster": "local", "timeout_mins": 3}, "timeout_mins"),
        ({}, "finds no SLURM here"),
    ],
)
def test_what_the_cluster_does_not_take_is_refused(tmp_path, settings, message, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch
    with pytest.raises(ValueError, match=message):
        jobs_of_a_cluster(tmp_path, settings)


def test_without_the_package_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"graft_lightning\[slurm\]"):
        jobs_of_a_cluster(tmp_path, {})


def test_settings_are_pairs(sweep, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["sweep", "sweep.yaml", "--launcher=submitit", "--submitit", "timeout_min"])
    assert "KEY=VALUE" in capsys.readouterr().err
