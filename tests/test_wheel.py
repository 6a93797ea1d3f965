"""The built wheel: it carries what ships, and works from an empty folder."""

import configparser
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from graft_lightning import shipped

ROOT = Path(__file__).parents[1]
INSIDE = "graft_lightning/installed/"
CARRIED = {".yaml", ".py", ".md", ".json", ".sh", ".png", ".safetensors"}


def tracked(*places):
    """Files that a checkout has, as git lists them."""
    line = ["git", "-C", str(ROOT), "ls-files", "--", *places]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a checkout")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Built from a copy of what git tracks, so that nothing that an earlier build left here gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in tracked(
        "graft_lightning", "data", "experiments", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    (source / "data/large.safetensors").write_bytes(b"a download")
    (source / "data/digits/notes.csv").write_bytes(b"somebody's own")
    line = [
        "wheel",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "--wheel-dir",
        str(folder),
        str(source),
    ]
    subprocess.run([sys.executable, "-m", "pip", *line], check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    return built


def test_it_carries_what_is_tracked_and_no_downloads(wheel):
    with zipfile.ZipFile(wheel) as file:
        carried = {name: file.read(name) for name in file.namelist()}
    wanted = tracked("data", "experiments")
    assert {Path(name).suffix for name in wanted} <= CARRIED, "a kind of file that setup.cfg does not know"
    for name in wanted:
        assert carried[INSIDE + name] == (ROOT / name).read_bytes(), name
    assert {name.removeprefix(INSIDE) for name in carried if name.startswith(INSIDE)} == set(wanted)
    assert {"data", "experiments", "tests"}.isdisjoint(name.split("/")[0] for name in carried)
    modules = {name for name in tracked("graft_lightning") if name.endswith((".py", "py.typed"))}
    assert modules <= carried.keys()


def test_every_package_is_named():
    """Those of a wheel are listed by hand, since two of them lie elsewhere."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = set(config["options"]["packages"].split())
    found = {".".join(file.relative_to(ROOT).parent.parts) for file in (ROOT / "graft_lightning").rglob("__init__.py")}
    assert named == found | {"graft_lightning.installed.data", "graft_lightning.installed.experiments"}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, and nothing said yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "_said", set())
    return tmp_path


def test_a_configuration_that_is_not_here_is_the_one_that_ships(elsewhere, capsys):
    name = "experiments/digits/pgraft.yaml"
    assert shipped.config_file(name) == ROOT / name
    assert shipped.config_file(name) == ROOT / name
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert str(ROOT / name) in line


def test_ones_own_comes_first(elsewhere, capsys):
    own = Path("experiments/digits/pgraft.yaml")
    own.parent.mkdir(parents=True)
    own.touch()
    assert shipped.config_file(own) == own
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "name",
    [
        "experiments/digits/no_such.yaml",
        "digits/pgraft.yaml",
        "experiments/../setup.cfg",
        "experiments/../experiments/demo.yaml",
        "/experiments/demo.yaml",
        "experiments/README.md",
        "experiments/digits",
    ],
)
def test_no_other_name_is_looked_for(elsewhere, capsys, name):
    assert shipped.config_file(name) == Path(name)
    assert capsys.readouterr().err == ""


def test_an_installed_copy_has_its_own(elsewhere, monkeypatch):
    (elsewhere / "package/installed/data").mkdir(parents=True)
    monkeypatch.setattr(shipped, "PACKAGE", elsewhere / "package")
    assert shipped.shipped("data/digits") == elsewhere / "package/installed/data/digits"


@pytest.mark.parametrize("line", [["--config", "{}"], ["--config={}"], ["-c", "{}"]])
def test_a_command_line_names_it_in_any_way(elsewhere, line):
    from graft_lightning.cli.words import with_shipped

    name = "experiments/digits/pgraft.yaml"
    words = ["fit", *(part.format(name) for part in line), "--data.pool", name]
    assert with_shipped(words) == ["fit", *(part.format(ROOT / name) for part in line), "--data.pool", name]


def test_a_sweep_finds_its_cells_and_keeps_its_records_here(elsewhere):
    from graft_lightning.cli.sweep_file import read_plan

    plan = read_plan(Path("experiments/digits/reproduce.yaml"))
    layers = {layer for chain in plan.chains for cell in chain.cells for layer in cell.config}
    assert str(ROOT / "experiments/digits/graft.yaml") in layers
    assert all(Path(layer).is_file() for layer in layers)
    assert plan.records == Path("experiments/digits/records/reproduce"), "what is installed is not written to"


IN_TURN = """
import json, os, sys
from graft_lightning.cli.main import main

def run(*words):
    sys.argv[1:] = words
    main()

run(*json.loads(sys.argv[1]), "--measure=false")
run("new", "mine")
run("plan", "--config", "experiments/mnist/pgraft.yaml")
os.chdir("mine")
sys.path.insert(0, "")
run("plan", "--config", "experiment.yaml", "--measure=false")
"""
"""Several commands of an installed copy, in one process: what most of a short one's time is spent on is importing."""


@pytest.mark.slow
def test_an_installed_wheel_works_from_an_empty_folder(wheel, warm_python, tmp_path):
    target, empty = tmp_path / "target", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), wheel]
    subprocess.run(pip, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def run(*words):
        line = [str(warm_python), *words]
        done = subprocess.run(line, cwd=empty, env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        return done

    plans = [["plan", "--config", f"experiments/{name}.yaml"] for name in ("digits/pgraft", "molecules/pgraft")]
    by_itself, in_turn = run("-m", "graft_lightning", *plans[0]), run("-c", IN_TURN, json.dumps(plans[1]))
    for done, line in zip((by_itself, in_turn), plans, strict=True):
        assert str(target / INSIDE / line[-1]) in done.stderr
    assert "ddpm_mnist.safetensors" in in_turn.stdout + in_turn.stderr, "its class is found, its weights are not there"
    assert "Traceback" not in in_turn.stderr
