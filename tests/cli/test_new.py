"""``new``: what it writes is another's experiment with a reward of one's own, and runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graft_lightning.cli.beginning import HEAD, OWN, experiment_of
from graft_lightning.cli.main import main
from graft_lightning.cli.written import of_text
from graft_lightning.domains.base import own_reward as of_images
from graft_lightning.domains.layouts import own_reward as of_layouts
from graft_lightning.domains.layouts.layout import batch
from graft_lightning.domains.molecules import own_reward as of_molecules
from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.dataset import stored

ROOT = Path(__file__).parents[2]
TEXTS = {file: file.read_text(encoding="utf-8") for file in sorted((ROOT / "experiments").rglob("*.yaml"))}
PARSED = {file: of_text(text) for file, text in TEXTS.items()}
RUNS = {file: run for file, run in PARSED.items() if "class_path" in run.get("model", {})}
SCORED = [file for file, run in RUNS.items() if "reward" in run.get("collect", {})]
DOMAINS = {"digits": of_images, "mnist": of_images, "text_to_image": of_images, "molecules": of_molecules}
DOMAINS |= {"layouts": of_layouts}


def at(found, keys):
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def without(found, keys):
    """A copy of a mapping without what is at some keys."""
    first, *rest = keys
    others = {key: value for key, value in found.items() if key != first}
    return others | {first: without(found[first], rest)} if rest else others


@pytest.mark.parametrize("file", SCORED, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_nothing_is_another_than_reward_and_folders(file):
    text = experiment_of(TEXTS[file], "FILE")
    before, after = of_text(TEXTS[file]), of_text(text)
    assert [at(after, keys) for keys in OWN] == [of_text(own) for own in OWN.values()]
    for keys in OWN:
        before, after = without(before, keys), without(after, keys)
    assert before == after
    assert text.startswith(HEAD.format(source="FILE"))
    assert max(map(len, text.removeprefix(HEAD.format(source="FILE")).splitlines())) <= max(
        len(line) for line in TEXTS[file].splitlines()
    )
    kept = set(re.findall(r"(?<=\S) +(# .*)", TEXTS[file])) - set(re.findall(r"(?<=\S) +(# .*)", text))
    assert all("YOURS" in comment or "parameters" in comment or "reward" in comment for comment in kept), kept


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_folder_has_the_reward_of_its_domain(domain, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = next(file for file in SCORED if file.parent.name == domain and file.stem.endswith("pgraft"))
    main(["new", "mine", f"--from={source.relative_to(ROOT)}"])
    said = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"experiment.yaml", "my_rewards.py"}
    assert (tmp_path / "mine/my_rewards.py").read_text() == Path(DOMAINS[domain].__file__).read_text()
    assert "next: cd mine; python -m graft_lightning plan --config experiment.yaml" in said


def test_the_rewards_are_what_they_say(tmp_path):
    stripes = torch.tensor([0.0, 1.0]).repeat(8).reshape(1, 1, 4, 4)
    contrast = of_images.score(torch.cat([torch.zeros_like(stripes), stripes]), ["", ""])
    torch.testing.assert_close(contrast, torch.tensor([0.0, (4 / 15) ** 0.5]))
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.1]], [[0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    pages = batch(torch.zeros(2, 2, dtype=torch.int64), boxes, torch.tensor([[True, True], [False, False]]))
    large = of_layouts.score(pages, ["n=2", "n=0"])
    torch.testing.assert_close(large, torch.tensor([0.15, torch.nan]), equal_nan=True)
    water = Molecule(("O", "H", "H"), np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]), "water")
    hydrogen = Molecule(("H", "H"), np.array([[0.0, 0, 0], [0.74, 0, 0]]), "hydrogen")
    found = stored(tmp_path, "two", {}, lambda left_out: [water, hydrogen])
    (molecules,) = found.pieces()
    assert of_molecules.score(molecules, ["n=3", "n=2"]).tolist() == [1.0, 0.0]


@pytest.mark.usefixtures("warm")
def test_what_is_written_runs(tmp_path):
    """As a reader would do it: from the folder, in processes of their own."""
    main(["new", str(tmp_path / "mine")])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(command, *more):
        line = [sys.executable, "-m", "graft_lightning", command, "--config", "experiment.yaml", *more]
        done = subprocess.run(line, cwd=tmp_path / "mine", env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert "2,560 trajectories" in run("plan", "--measure", "false")
    tiny = [f"--config={ROOT}/tests/overrides/tiny.yaml", "--collect.draws=10"]
    tiny += [f"--data.{part}.limit=2" for part in ("conditions", "validation", "test")]
    said = run("fit", *tiny)
    assert "run: runs/pgraft" in said
    assert "pool: runs/pool" in said
    assert '"score"' in (tmp_path / "mine/runs/pgraft/evaluation.jsonl").read_text()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["there"], "there is there already; name a folder that is not"),
        (["mine", "--from=experiments/demo.yaml"], "experiments/demo.yaml has no collect.reward; begin from a run"),
        (["mine", "--from=experiments/digits/pretrain.yaml"], "has no collect.reward"),
        (["mine", "--from=absent.yaml"], "absent.yaml: No such file or directory"),
        (["mine", "--from=broken.yaml"], "broken.yaml is no YAML"),
        (["mine", "--from=bytes.yaml"], "bytes.yaml is no text in UTF-8"),
        (["mine", "--from=bare.yaml"], "bare.yaml is no whole run"),
        (["mine", "--from=experiments/mnist/border.yaml"], "border.yaml is no whole run"),
        (["mine", "--from=unknown.yaml"], "there is no class NoReference"),
        (["mine", "--from=unheard.yaml"], "no.such.Reference cannot be imported"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused(line, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    (tmp_path / "bare.yaml").write_text("collect: {reward: {class_path: A}}\n")
    for name, path in (("unknown", "NoReference"), ("unheard", "no.such.Reference")):
        model = f"model: {{class_path: Graft, init_args: {{reference: {{class_path: {path}}}}}}}"
        (tmp_path / f"{name}.yaml").write_text(f"collect: {{reward: {{class_path: A}}}}\n{model}\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as leave:
        main(["new", *line])
    assert leave.value.code == 2
    assert told in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
