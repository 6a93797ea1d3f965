"""Domains are found: a folder is one, and what it offers is found by the name of a module."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from graft_lightning import domains
from graft_lightning.cli.main import main
from tests.runs import arguments, tiny_config

ROOT = Path(__file__).parents[1]

FILES = {
    "__init__.py": "from graft_lightning.domains.{name}.conditions import {kind}\n\n__all__ = ['{kind}']\n",
    "conditions.py": (
        "from graft_lightning.domains.base import Texts\n\n\n"
        "class {kind}(Texts):\n    def __init__(self) -> None:\n        super().__init__(['two ones'])\n"
    ),
    "score.py": (
        '"""Counts letters."""\n\n\n'
        "def add_arguments(parser):\n"
        "    parser.add_argument('files', nargs='+')\n    parser.add_argument('--upper', action='store_true')\n\n\n"
        "def scores(options):\n"
        "    texts = [open(file).read() for file in options.files]\n"
        "    if not all(texts):\n        raise ValueError('an empty file')\n"
        "    return {{'letters': sum(map(len, texts)), 'upper': options.upper}}\n"
    ),
}


@pytest.fixture
def add_domain(tmp_path, monkeypatch):
    """Adds a domain that no file of ours names."""

    def add(name: str, kind: str, files=FILES) -> Path:
        folder = tmp_path / "more" / name
        folder.mkdir(parents=True)
        for file, text in files.items():
            (folder / file).write_text(text.format(name=name, kind=kind))
        if str(folder.parent) not in domains.__path__:
            monkeypatch.setattr(domains, "__path__", [*domains.__path__, str(folder.parent)])
        return folder

    yield add
    for name in [name for name in sys.modules if name.startswith("graft_lightning.domains.toy")]:
        del sys.modules[name]


def test_a_folder_is_a_domain(add_domain):
    there = domains.names()
    assert {"digits", "molecules"} <= set(there)
    assert "base" not in there
    offering = domains.offering("score")
    add_domain("toys", "ToyConditions")
    add_domain("toyless", "ToylessConditions", {"__init__.py": ""})
    assert domains.names() == sorted([*there, "toys", "toyless"])
    assert domains.offering("score") == sorted([*offering, "toys"])
    assert domains.offering("nothing") == []


def test_its_classes_are_known_by_their_bare_names(add_domain, capsys, tmp_path):
    add_domain("toyclasses", "ToyClassConditions")
    config = tiny_config(tmp_path, {"data.conditions": {"class_path": "ToyClassConditions"}})
    with pytest.raises(SystemExit, match="0"):
        main(arguments("fit", tmp_path, config, "--print_config"))
    found = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["conditions"]["class_path"]
    assert found == "graft_lightning.domains.toyclasses.ToyClassConditions"


def test_its_scores_are_printed(add_domain, capsys, tmp_path):
    add_domain("toyscores", "ToyScoreConditions")
    for name, text in (("a", "abc"), ("b", "de"), ("empty", "")):
        (tmp_path / name).write_text(text)
    main(["score", "toyscores", str(tmp_path / "a"), str(tmp_path / "b"), "--upper"])
    assert json.loads(capsys.readouterr().out) == {"letters": 5, "upper": True}
    main(["score", "--upper", "toyscores", str(tmp_path / "a")])
    assert json.loads(capsys.readouterr().out) == {"letters": 3, "upper": True}
    for wrong, message in (("absent", "absent"), ("empty", "error: an empty file")):
        with pytest.raises(SystemExit, match="2"):
            main(["score", "toyscores", str(tmp_path / wrong)])
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["score", "toyscores", "--help"])
    shown = capsys.readouterr().out
    assert "Counts letters." in shown
    assert "--upper" in shown


def test_score_names_what_there_is(add_domain, capsys):
    add_domain("toysthere", "ToyThereConditions")
    with pytest.raises(SystemExit, match="0"):
        main(["score", "--help"])
    assert "molecules, toysthere" in capsys.readouterr().out
    for wrong in (["nothing", "file"], ["digits", "file"], [], ["file"]):
        with pytest.raises(SystemExit, match="2"):
            main(["score", *wrong])
        assert "domain" in capsys.readouterr().err


def test_a_domain_that_cannot_be_imported_keeps_nobody_from_the_others(add_domain, caplog, monkeypatch):
    add_domain("toybroken", "", {"__init__.py": "import no_such_package\n"})
    add_domain("toywhole", "ToyWholeConditions")
    monkeypatch.setattr(domains.log, "propagate", False)  # the package's own logger hands nothing on either
    monkeypatch.setattr(domains.log, "handlers", [caplog.handler])
    domains.load_all()
    assert "toybroken cannot be imported: No module named 'no_such_package'" in caplog.text
    assert "graft_lightning.domains.toywhole" in sys.modules


def test_what_stands_beside_a_class_is_found_also_outside(tmp_path, monkeypatch):
    from graft_lightning.domains.molecules import MoleculeReference
    from graft_lightning.domains.text_to_image import DiffusersReference

    exporter = domains.offered_beside(DiffusersReference, "export")
    assert exporter is not None
    assert {"Tuned", "export"} <= set(vars(exporter))
    own = type("Own", (DiffusersReference,), {"__module__": "nowhere"})
    assert domains.offered_beside(own, "export") is exporter
    assert domains.offered_beside(MoleculeReference, "export") is None
    outside = tmp_path / "toy_outside"
    outside.mkdir()
    for file, text in {"__init__.py": "", "reference.py": "class Own:\n    pass\n", "export.py": "Tuned = 1\n"}.items():
        (outside / file).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import toy_outside.reference

    assert domains.offered_beside(toy_outside.reference.Own, "export").Tuned == 1


def test_git_keeps_cards_and_weights_of_any_domain_and_no_downloads(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    kept = ["data/toys/README.md", "data/toys/reference.safetensors"]
    left = [
        "data/qm7_xyz.tar.gz",
        "data/toys/train.xyz",
        "data/toys/sub/x.safetensors",
        "data/toys/a/b.bin",
        "data/x.md",
    ]
    for name in kept + left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    line = ["git", "-C", str(tmp_path), "ls-files", "--others", "--exclude-standard"]
    listed = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
    assert sorted(name for name in listed if name.startswith("data/")) == sorted(kept)
