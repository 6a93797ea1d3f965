"""``fit``, ``export``, ``verify``, from the command line; and what `export` refuses."""

import json
import shutil

import pytest
import yaml

from graft_lightning.cli.main import main
from tests.domains.text_to_image.test_runs import ROOT, small
from tests.runs import launch


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file", "changes"),
    [
        ("sd2", "sd2_pgraft", {}),
        ("sdxl", "sd2_pgraft", {"model": {"init_args": {"guidance": "absorbed"}}}),
        ("sd3", "sd3_pgraft", {"model": {"init_args": {"lora": None}}}),
        ("sd15", "sd2_graft", {"model": {"init_args": {"lora": None}}}),
    ],
    ids=["sd2", "sdxl-absorbed", "sd3-full", "sd15-graft-full"],
)
@pytest.mark.usefixtures("warm")
def test_a_run_is_exported_and_verified(pipeline_folder, model_folder, tmp_path, capfd, name, file, changes):
    layer = tmp_path / "changes.yaml"
    layer.write_text(yaml.safe_dump(changes))
    line = [
        f"--config=experiments/text_to_image/{file}.yaml",
        f"--config={small(tmp_path, model_folder)}",
        f"--config={layer}",
        f"--model.init_args.reference.init_args.model={pipeline_folder(name)}",
    ]
    main(["fit", *line])
    run, out = tmp_path / "run", tmp_path / "out"
    capfd.readouterr()
    main(["export", str(run), f"--out={out}", "--samples=2"])
    printed = capfd.readouterr().out
    assert f"verify {out}" in printed
    assert "verified" in printed.splitlines(), "export proves what it wrote"
    main(["export", str(run), f"--out={out}", "--samples=2", "--no-verify"])
    assert "verified" not in capfd.readouterr().out

    settings, task = (json.loads((out / f"{part}.json").read_text()) for part in ("handoff", "verify"))
    assert settings["steps_trained"] == 2
    assert (out / "pipeline" / "model_index.json").exists() == (settings["handoff"]["state"] == 0)
    assert task["prompts"] == ["a cat", "a blue cup"]
    card = (out / "README.md").read_text()
    front, _, body = card.removeprefix("---\n").partition("---\n")
    assert yaml.safe_load(front)["base_model"] == str(pipeline_folder(name).resolve())
    last = json.loads((run / "evaluation.jsonl").read_text().splitlines()[-1])
    assert f"| {last['method']} | 2 | {last['metrics']['VQAScore']['mean']:.4g}" in body
    assert "| validate | base | 0 |" in body
    assert "![a cat](sample-0.png)" in body
    assert ("composed" in body) == (settings["guidance"]["mode"] == "composed")

    if name == "sd2":  # a process of its own, which the export has started already, takes most of the time
        shutil.copytree(out, tmp_path / "moved")  # an export is complete in itself, but for the base model
        main(["verify", str(tmp_path / "moved")])


def refused(capsys, *line):
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, line)])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_what_cannot_be_exported_is_refused(tmp_path, capsys):
    assert "config.yaml is absent" in refused(capsys, tmp_path)
    launch("fit", tmp_path, {"trainer.max_steps": 1, "evaluate.baseline": False})
    assert "PGraft of a DigitReference" in refused(capsys, tmp_path / "run")
    assert "samples=0" in refused(capsys, tmp_path / "run", "--samples=0")
