"""Sweeps, reports, exports and inversions that are killed, and begun again: their end is that of undisturbed ones.

Each on two file systems: its folder is on one, the temporary folder on the other.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import yaml

from graft_lightning import durable
from graft_lightning.cli.main import main
from graft_lightning.domains.text_to_image.export import export
from graft_lightning.domains.text_to_image.export.handoff import changed
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.pool.round import Round
from graft_lightning.runs import DONE, done
from tests import corrections
from tests.domains.text_to_image.conftest import pipeline_folder  # noqa: F401
from tests.domains.text_to_image.export.conftest import draws, tuned_of  # noqa: F401 - fixtures
from tests.faults.counting import count
from tests.killing import die_at, killed
from tests.runs import launch

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SHM = Path("/dev/shm")


TWO = ("temporary folder on /dev/shm", "on /dev/shm")


def in_turn(name, points):
    """Points of which every other is tried on the other file system: what takes seconds is not tried on both."""
    cases = [(point, TWO[number % 2]) for number, point in enumerate(points)]
    return pytest.mark.parametrize((name, "folder"), cases, indirect=["folder"])


@pytest.fixture(params=TWO)
def folder(request, tmp_path, monkeypatch):
    """A folder of its own, on another file system than the temporary one."""
    if not SHM.is_dir():
        pytest.skip("/dev/shm, the second file system, is absent")
    with tempfile.TemporaryDirectory(dir=SHM) as shared:
        here, other = (tmp_path, Path(shared)) if request.param.startswith("temp") else (Path(shared), tmp_path)
        assert here.stat().st_dev != other.stat().st_dev
        monkeypatch.setenv("TMPDIR", str(other))
        monkeypatch.setattr("tempfile.tempdir", str(other))
        yield here


def files_of(folder):
    """Content of all files, by place; what was left half-written among them."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def contents_of(folder):
    """Of whole files, but for the order in which the header of safetensors lists what stands beside the tensors."""
    found = {name: content for name, content in files_of(folder).items() if ".tmp" not in name}
    del found["SHA256SUMS"]  # of those very bytes
    for name in found:
        if name.endswith(".safetensors"):
            size = int.from_bytes(found[name][:8], "little") + 8
            found[name] = json.loads(found[name][8:size]), found[name][size:]
    return found


def hidden(folder):
    return [f for f in folder.rglob("*") if f.name.endswith((".tmp", ".partial", ".old"))]


# ---- inversion

INVERSIONS = {
    "the first shard": (Round, "write", 1),
    "the last shard": (Round, "write", 3),
    "the record": (durable.os, "replace", 1, lambda a, b: str(b).endswith("inverted.json")),
    "a figure": (durable.os, "replace", 1, lambda a, b: str(b).endswith("inverted_steps.png")),
}


@pytest.fixture(scope="module")
def inverted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inverted")
    corrections.launch("fit", folder)
    return folder


def columns(folder):
    (opened,) = TrajectoryPool.open(folder / "pool").rounds()
    return {name: opened.column(name) for name in opened.fields}


@in_turn("point", INVERSIONS)
def test_an_inversion(folder, monkeypatch, inverted, point):
    where, name, number, *chosen = INVERSIONS[point]
    with monkeypatch.context() as patch:
        die_at(patch, where, name, number, *chosen)
        killed(lambda: corrections.launch("fit", folder))
    corrections.launch("fit", folder)
    one, two = columns(inverted), columns(folder)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=0, equal_nan=True, msg=name)
    records = [json.loads((f / "run/inverted.json").read_text()) for f in (inverted, folder)]
    for record in records:
        del record["newly_inverted"]
    assert records[0] == records[1]
    assert not [f for f in hidden(folder) if f.suffix != ".tmp"]
    count("kill points", "inversion as if undisturbed")


# ---- report


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    test = {"class_path": "Texts", "init_args": {"values": ["two ones", "a five above a six"]}}
    cli = launch("fit", folder, {"data.test": test, "trainer.max_steps": 2})
    del cli
    launch("test", folder, {"data.test": test}, f"--ckpt_path={folder}/run/checkpoints/last.ckpt")
    main(["report", str(folder / "run"), f"--out={folder / 'report'}"])
    return folder


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("before", ["nothing", "an older report"])
def test_a_report(folder, monkeypatch, evaluated, number, before):
    arguments = ["report", str(evaluated / "run"), f"--out={folder / 'report'}"]
    old = {}
    if before != "nothing":
        main([*arguments, "--title=Older"])
        old = files_of(folder / "report")
    with monkeypatch.context() as patch:
        die_at(patch, durable.os, "replace", number)
        killed(lambda: main(arguments))
    whole = files_of(evaluated / "report")
    for name, content in files_of(folder / "report").items():  # each is the old one or the new one
        assert name.endswith(".tmp") or content in (old.get(name), whole[name]), name
    main(arguments)
    found = files_of(folder / "report")
    assert {n: c for n, c in found.items() if not n.endswith(".tmp")} == whole
    count("kill points", "report as if undisturbed")


# ---- export


@pytest.fixture(params=["LoRA", "full", "merged"])
def tuned(request, tuned_of):  # noqa: F811
    kinds = {
        "LoRA": {},
        "full": {"lora": None},
        "merged": {"handoff": 0.0, "guidance": "absorbed"},
    }
    return tuned_of("sd15", **kinds[request.param])


@in_turn("number", [1, 4, 6])
def test_an_export(folder, monkeypatch, tuned, draws, capfd, number):  # noqa: F811
    export(tuned, draws, folder / "killed")
    whole = contents_of(folder / "killed")
    with monkeypatch.context() as patch:
        die_at(patch, durable.os, "replace", number)
        killed(lambda: export(tuned, draws, folder / "killed"))
    with pytest.raises(SystemExit) as leave:
        main(["verify", str(folder / "killed")])
    assert leave.value.code == 2
    assert "verify.json is absent; `export` writes it" in capfd.readouterr().err
    export(tuned, draws, folder / "killed")
    assert contents_of(folder / "killed") == whole
    assert not changed(folder / "killed")
    count("kill points", "export as if undisturbed")


# ---- sweep

CELL = """
import json, sys, time
from pathlib import Path

folder = Path(sys.argv[sys.argv.index("cell") + 1])
time.sleep(0.3)
with open(folder.parent / "calls.txt", "a") as file:
    file.write(folder.name + "\\n")
recipe = json.loads((folder / "cell.json").read_text())
(folder / "done.json").write_text(json.dumps({"identity": recipe["digest"], "seconds": 1.0}))
"""
SWEEP = {
    "folder": "runs",
    "settings": {"data.pool": "{chain}/pool"},
    "cells": {name: {"commands": ["test"], "config": ["layer.yaml"]} for name in ("one", "two", "three")},
    "chains": [{"name": "a", "seed": 3, "cells": ["one", "two", "three"]}],
}


@pytest.fixture
def sweep(folder, monkeypatch):
    """A sweep of three cells, each of which a script stands for."""
    monkeypatch.chdir(folder)
    Path("layer.yaml").write_text("model: {}\n")
    Path("sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    script = folder / "python"
    script.write_text(f"#!{sys.executable}\n{CELL}")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    from graft_lightning.cli.chain import run_chain
    from graft_lightning.cli.sweep_file import read_plan

    return lambda: run_chain(read_plan(Path("sweep.yaml")).chains[0])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_sweep(folder, monkeypatch, sweep, number):
    """While the recipe of a cell is written: those that are done stay, the others are begun."""
    with monkeypatch.context() as patch:
        die_at(patch, durable.os, "replace", number)
        killed(sweep)
    assert [name for name in SWEEP["cells"] if (folder / "runs/a" / name / DONE).exists()] == list(SWEEP["cells"])[
        : number - 1
    ]
    sweep()
    assert (folder / "runs/a/calls.txt").read_text().split() == ["one", "two", "three"]
    assert all(done(folder / "runs/a" / name) for name in SWEEP["cells"])
    count("kill points", "sweep as if undisturbed")
