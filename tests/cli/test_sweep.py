"""The sweep: cells run once, in order, each in a process; a failed one stops nobody, a killed sweep takes all along."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import graft_lightning.cli.cell
from graft_lightning.cli.cell import run_cell
from graft_lightning.cli.chain import (
    RECIPE,
    RunningChain,
    SweepBusy,
    arguments,
    is_done,
    lock_file,
    read_recipe,
    run_chain,
    write_recipe,
)
from graft_lightning.cli.main import main
from graft_lightning.cli.sweep import run_sweep
from graft_lightning.cli.sweep_file import read_plan
from graft_lightning.identity import digest_of
from graft_lightning.runs import DONE, LOG, done, read_records
from tests.runs import changed, tiny_config

ROOT = Path(__file__).parents[2]

SWEEP = {
    "folder": "nowhere",
    "settings": {"data.pool": "{chain}/pool", "evaluate.baseline": False},
    "cells": {
        "base": {"commands": ["test"], "config": ["layer.yaml"], "settings": {"data.pool": None}},
        "graft": {"commands": ["fit", "test"], "config": ["layer.yaml"]},
    },
    "chains": [{"name": "seed-3", "seed": 3, "cells": ["base", "graft"], "settings": {"data.other": "{root}/shared"}}],
}

STAND_IN = """
import json, os, subprocess, sys, time
from pathlib import Path

folder = Path(sys.argv[sys.argv.index("cell") + 1])
print("begun with", os.environ["OMP_NUM_THREADS"], "threads")
{body}
recipe = json.loads((folder / "cell.json").read_text())
(folder / "done.json").write_text(json.dumps({{"identity": recipe["digest"], "seconds": 1.0}}))
"""


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("layer.yaml").write_text("model: {}\n")
    Path("sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    return lambda: read_plan(Path("sweep.yaml"), tmp_path / "runs").chains[0]


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Cells run a script in place of the package, which takes seconds to be loaded."""

    def use(body: str = "") -> None:
        script = tmp_path / "python"
        script.write_text(f"#!{sys.executable}\n{STAND_IN.format(body=body)}")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return use


@pytest.fixture
def called(monkeypatch) -> list[list[str]]:
    """What the commands of a cell are called with; a fit leaves a checkpoint, as Lightning does."""
    calls: list[list[str]] = []

    def main():
        calls.append(sys.argv[1:])
        os.environ["LOCAL_RANK"] = "0"
        if sys.argv[1] == "fit":
            save_dir = next(a.split("=", 1)[1] for a in sys.argv if "save_dir" in a)
            (Path(save_dir) / "graft/checkpoints").mkdir()
            (Path(save_dir) / "graft/checkpoints/last.ckpt").touch()

    monkeypatch.setattr(graft_lightning.cli.cell, "main", main)
    return calls


def begun(chain, name):
    """The folder of a cell that a sweep has begun."""
    folder = chain.folder / name
    folder.mkdir(parents=True)
    write_recipe(chain, next(cell for cell in chain.cells if cell.name == name))
    return folder


# ---- a cell


def test_a_cell_runs_its_commands_in_order_with_their_settings(plan, called, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    chain = plan()
    own = sys.argv
    for name in ("base", "graft"):
        run_cell([str(begun(chain, name))])
    assert [line[0] for line in called] == ["test", "fit", "test"]
    base, fit, test = called
    assert "--seed_everything=3" in base
    assert not any(a.startswith("--data.pool") for a in base)  # null takes the common setting back
    assert f"--data.pool={chain.folder}/pool" in fit
    assert f"--data.other={chain.folder.parent}/shared" in fit
    assert "--evaluate.baseline=false" in fit
    assert f"--ckpt_path={chain.folder}/graft/checkpoints/last.ckpt" in test
    assert not any("ckpt_path" in a for a in [*base, *fit])
    assert all(is_done(chain, cell) for cell in chain.cells)
    assert json.loads((chain.folder / "graft" / DONE).read_text())["seed"] == 3
    assert sys.argv is own
    assert "LOCAL_RANK" not in os.environ  # the next command starts processes of its own


@pytest.mark.parametrize("error", [ValueError("no such reward"), SystemExit(2), SystemExit("no such reward")])
def test_a_cell_ends_with_its_first_command_that_fails(plan, monkeypatch, capsys, error):
    calls = []

    def main():
        calls.append(sys.argv[1])
        raise error

    monkeypatch.setattr(graft_lightning.cli.cell, "main", main)
    chain = plan()
    with pytest.raises(SystemExit, match="1"):
        run_cell([str(begun(chain, "graft"))])
    assert calls == ["fit"]
    assert not (chain.folder / "graft" / DONE).exists()
    assert isinstance(error, SystemExit) or "no such reward" in capsys.readouterr().err


def test_a_command_that_ends_well_by_itself_is_no_failure(plan, monkeypatch):
    def main():
        raise SystemExit(0)

    monkeypatch.setattr(graft_lightning.cli.cell, "main", main)
    chain = plan()
    run_cell([str(begun(chain, "base"))])
    assert is_done(chain, chain.cells[0])


def test_a_recipe_is_what_the_sweep_had_asked_for(plan):
    chain = plan()
    folder = begun(chain, "graft")
    Path("layer.yaml").write_text("model: {other: 1}\n")  # edited while the cell runs
    read, cell, identity = read_recipe(folder)
    assert (read.seed, read.name, read.folder, read.threads) == (3, "seed-3", chain.folder, chain.threads)
    assert cell == chain.cells[1]
    (folder / "x.ckpt").touch()
    assert arguments(read, cell, folder, "test") == arguments(chain, chain.cells[1], folder, "test")
    (folder / DONE).write_text(json.dumps({"identity": digest_of(identity)}))
    assert not is_done(plan(), cell)


def test_a_cell_that_two_patterns_fit_is_one_cell(plan):
    chains = [{**SWEEP["chains"][0], "cells": ["base", "*", "gr*"]}]
    Path("sweep.yaml").write_text(yaml.safe_dump({**SWEEP, "chains": chains}))
    assert [cell.name for cell in plan().cells] == ["base", "graft"]


def test_a_folder_that_is_no_cells_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["cell", str(tmp_path)])
    assert RECIPE in capsys.readouterr().err


# ---- chains


def test_a_chain_runs_each_cell_in_a_process_of_its_own(plan, stand_in):
    stand_in('print("as", os.getpid(), os.getpgrp(), os.getsid(0)); print("and this", file=sys.stderr)')
    chain = plan()
    run_chain(chain)
    assert all(is_done(chain, cell) for cell in chain.cells)
    seen = set()
    for cell in chain.cells:
        log = (chain.folder / cell.name / LOG).read_text()
        pid, group, session = re.search(r"as (\d+) (\d+) (\d+)", log).groups()
        assert pid == group == session != str(os.getpid())
        assert "and this" in log
        assert f"begun with {chain.threads} threads" in log
        seen.add(pid)
    assert len(seen) == 2


def test_what_is_done_is_not_done_again_until_something_changes(plan, stand_in):
    stand_in('open("calls", "a").write("x")')
    run_chain(plan())
    run_chain(plan())
    assert Path("calls").read_text() == "xx"
    Path("layer.yaml").write_text("model: {other: 1}\n")
    assert not any(is_done(plan(), cell) for cell in plan().cells)
    run_chain(plan())
    assert Path("calls").read_text() == "xxxx"


@pytest.mark.parametrize("left", ["", '{"identity": "a1', "[]", "{}", None])
def test_a_cell_that_was_interrupted_is_begun_afresh(plan, stand_in, left):
    """Its mark may be truncated, which must not stop any sweep."""
    stand_in()
    chain = plan()
    (chain.folder / "base").mkdir(parents=True)
    (chain.folder / "base/half.txt").touch()
    if left is not None:
        (chain.folder / "base" / DONE).write_text(left)
    assert not is_done(chain, chain.cells[0])
    run_chain(chain)
    assert not (chain.folder / "base/half.txt").exists()
    assert is_done(chain, chain.cells[0])


@pytest.mark.parametrize("failure", ["sys.exit(3)", "os.kill(os.getpid(), 9)", "raise ValueError('no such reward')"])
def test_a_failed_cell_is_told_and_stops_nobody(plan, stand_in, capsys, failure):
    stand_in(f"if folder.name == 'base': {failure}")
    chain = plan()
    run_chain(chain)
    assert [is_done(chain, cell) for cell in chain.cells] == [False, True]
    assert f"seed-3/base failed, see {chain.folder / 'base' / LOG}" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="1"):
        run_sweep(["sweep.yaml", f"--folder={chain.folder.parent}"])
    assert "failed: seed-3/base" in capsys.readouterr().err


def gone(pid: int) -> bool:
    """Whether a process has ended; who never waits for it leaves its name."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def until(holds, seconds=30.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


SLEEPER = """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(folder / "pids").write_text(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""


def test_a_stopped_chain_takes_along_what_its_cell_has_started(plan, stand_in):
    stand_in(SLEEPER)
    chain = plan()
    running = RunningChain(chain)
    running.step()
    pids = chain.folder / "base/pids"
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    running.stop()
    until(lambda: all(gone(int(pid)) for pid in pids.read_text().split()))


def test_of_two_sweeps_of_one_chain_the_second_is_refused(plan, stand_in, monkeypatch, capsys):
    stand_in("time.sleep(600)")
    monkeypatch.setattr(graft_lightning.cli.chain, "DYING", 0.3)
    chain = plan()
    running = RunningChain(chain)
    running.step()
    left = sorted(path.name for path in (chain.folder / "base").iterdir())
    try:
        with pytest.raises(SweepBusy, match=rf"another sweep \(process {os.getpid()}\)"):
            RunningChain(chain)
        with pytest.raises(SystemExit, match="2"):
            run_sweep(["sweep.yaml", f"--folder={chain.folder.parent}"])
        assert "is being run by another sweep" in capsys.readouterr().err
        assert sorted(path.name for path in (chain.folder / "base").iterdir()) == left
    finally:
        running.stop()


KILLED = """
import signal
from pathlib import Path
from graft_lightning.cli.sweep_file import read_plan
from graft_lightning.cli.chain import run_chain
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background with it ignored
run_chain(read_plan(Path("sweep.yaml"), Path("runs")).chains[0])
"""

WATCHING = """
import os, subprocess, sys, time
from pathlib import Path
import graft_lightning.cli.cell

def main():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path("pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)

graft_lightning.cli.cell.main = main
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_killed_sweep_takes_its_cells_along_and_the_next_one_waits_for_them(plan, tmp_path, monkeypatch, how):
    chain = plan()
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nif 'cell' in sys.orig_argv:\n    exec({WATCHING!r})\n"  # the real `cell`, with a slow command
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    sweep = subprocess.Popen([sys.executable, "-c", KILLED], env=environment, stderr=subprocess.DEVNULL)
    pids = tmp_path / "pids"
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2, 60)
    found = [int(pid) for pid in pids.read_text().split()]
    assert not any(gone(pid) for pid in found)
    sweep.send_signal(how)
    sweep.wait()
    try:
        RunningChain(chain)  # waits for the lock, which goes with the last of them
        assert gone(found[0])
        until(lambda: gone(found[1]))
        assert lock_file(chain, chain.cells[0]).is_file()
    finally:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [{}, {"trainer.devices": 2, "trainer.strategy": "ddp"}], ids=["one", "two"])
@pytest.mark.usefixtures("warm")
def test_a_real_cell_is_fitted_and_tested(tmp_path, monkeypatch, parallel):
    """Two processes are started by the command line of the first one, for each command anew."""
    monkeypatch.chdir(tmp_path)
    config = tiny_config(tmp_path, {"data.test": {"class_path": "Texts", "init_args": {"values": ["two ones"]}}})
    config = changed(config, {"data.batch_size": 2, **parallel})
    Path("run.yaml").write_text(yaml.safe_dump(config))
    cell = {"commands": ["fit", "test"], "config": ["run.yaml"], "settings": {"data.init_args.pool": "{chain}/pool"}}
    sweep = {"folder": "runs", "cells": {"graft": cell}, "chains": [{"name": "a", "seed": 3, "cells": ["graft"]}]}
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run_chain(read_plan(Path("sweep.yaml")).chains[0])
    folder = tmp_path / "runs/a/graft"
    assert done(folder) is not None, (folder / LOG).read_text()
    last = {(record["stage"], record["method"]): record["step"] for record in read_records(folder)}
    steps = {"base": 0, "pgraft@0.25": 10}
    assert last == {(stage, method): step for stage in ("validate", "test") for method, step in steps.items()}


# ---- the file of a sweep


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


def test_a_chain_that_is_not_there_is_refused_and_nothing_is_run(plan, capsys):
    Path("sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    with pytest.raises(SystemExit, match="2"):
        run_sweep(["sweep.yaml", "--only", "seed-3", "seed-7"])
    names = ", ".join(chain["name"] for chain in SWEEP["chains"])
    assert f"--only seed-7: no chain of sweep.yaml begins so; they are {names}\n" in capsys.readouterr().err
    assert not Path(SWEEP["folder"]).exists()


def test_a_sweep_given_to_fit_is_told_from_a_run(plan, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--config", "sweep.yaml"])
    assert "describes many runs: python -m graft_lightning sweep sweep.yaml" in capsys.readouterr().err
