"""Samples that somebody has drawn and scored become a pool, which Graft is trained on; nothing is drawn."""

import csv
import json
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from graft_lightning.cli.main import main
from graft_lightning.domains.base.images import ImageReference
from graft_lightning.domains.digits.data import CANVAS_SIZE
from graft_lightning.rejection.imported import imported_round
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.runs import COLLECTED
from tests.runs import PROMPTS, arguments, launch, tiny_config

SIDE = CANVAS_SIZE
EACH = 6


def pictures(count: int, seed: int = 0):
    """Blurred noise, every one another, in steps of 1 / 255: what a PNG holds of it is it itself."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 1, SIDE, SIDE), generator=generator).float() / 255


def written(folder, rows, name="table.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def given(tmp_path):
    """A folder of pictures of the tiny run's prompts, with a table, whose rows and pictures are returned too."""
    images = pictures(EACH * len(PROMPTS))
    folder = tmp_path / "given"
    folder.mkdir()
    names = [f"image-{i}" for i in range(len(images))]
    ImageReference.write(None, images, names, folder)
    rows = [
        {"file": f"{name}.png", "prompt": PROMPTS[i % len(PROMPTS)], "taste": i / 10, "other": -i}
        for i, name in enumerate(names)
    ]
    written(folder, rows)
    return folder, rows, images


def graft_config(folder, changes=None):
    config = tiny_config(folder, {"model.handoff": ..., **(changes or {})})
    config["model"]["class_path"] = "Graft"
    return config


def config_of(folder, changes=None):
    return arguments("fit", folder, graft_config(folder, changes))[1]


def run_import(folder, table, *more):
    main(["import", str(table), config_of(folder), "--reward=taste", *map(str, more)])


def refused(capsys, *line) -> str:
    with pytest.raises(SystemExit, match="2"):
        main([str(word) for word in line])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_samples_become_a_pool_and_graft_is_trained_on_them(given, tmp_path, capsys):
    folder, rows, images = given
    run_import(tmp_path, folder, "--reward=other=second")
    told = capsys.readouterr().out
    assert f"{len(rows)} samples, {len(rows)} imported" in told
    assert "left out" not in told
    assert f"{len(PROMPTS)} conditions x {EACH} imported samples" in told
    assert f"--data.reward taste --collect.draws {EACH}" in told
    pool = TrajectoryPool.open(tmp_path / "pool")
    opened = pool.round(0)
    assert opened.complete
    states = opened.column("x_0")
    for place, text in enumerate(opened.conditions):
        own = [i for i, row in enumerate(rows) if row["prompt"] == text]
        torch.testing.assert_close(states[place], 2 * images[own] - 1, rtol=0, atol=1e-6)
        torch.testing.assert_close(opened.rewards("taste")[place], torch.tensor(own) / 10)
        torch.testing.assert_close(opened.rewards("second")[place], -torch.tensor(own).float())
    changes = {"collect.draws": EACH, "data.reward": "taste", "trainer.max_steps": 5}
    cli = launch("fit", tmp_path, config=graft_config(tmp_path, changes))
    assert cli.trainer.global_step == 5
    record = json.loads((tmp_path / "run" / COLLECTED).read_text())
    assert (record["newly_drawn"], record["draws"], record["reward"]) == (0, EACH, "taste")
    accepted = cli.datamodule.selection.accepted  # the two last ones of every prompt have the highest scores
    assert accepted.tolist() == [[False] * (EACH - 2) + [True] * 2] * len(PROMPTS)
    x = cli.datamodule._stream.read(range(16)).x
    best = 2 * images[[i for i in range(len(rows)) if i >= len(rows) - 2 * len(PROMPTS)]] - 1
    assert all((one - best).abs().flatten(1).amax(1).min() < 1e-6 for one in x)


def test_a_layer_over_a_configuration_counts_as_it_does_for_fit(given, tmp_path, capsys):
    layer = tmp_path / "layer.yaml"
    layer.write_text(f"data: {{init_args: {{pool: {tmp_path / 'elsewhere'}}}}}\n")
    run_import(tmp_path, given[0], "--config", layer)
    assert f"--config {layer} --data.reward taste" in capsys.readouterr().out
    assert TrajectoryPool.open(tmp_path / "elsewhere").round(0).complete
    assert not (tmp_path / "pool").exists()


def test_what_cannot_be_used_is_counted_by_kind(given, tmp_path, capsys):
    folder, rows, _ = given
    (folder / rows[0]["file"]).unlink()
    content = (folder / rows[1]["file"]).read_bytes()
    (folder / rows[1]["file"]).write_bytes(content[: len(content) // 2])
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(folder / rows[2]["file"])
    rows[3]["taste"], rows[4]["taste"], rows[5]["taste"] = "nan", "good", ""
    (folder / "copy.png").write_bytes((folder / rows[8]["file"]).read_bytes())
    rows.append({**rows[8], "file": "copy.png", "taste": 5})
    rows.append({**rows[9], "prompt": "a horse"})
    written(folder, rows)
    run_import(tmp_path, folder)
    told = capsys.readouterr().out
    for line in (
        "left out: 1 whose file is missing (line 2): ",
        "left out: 1 that cannot be read (line 3): ",
        "left out: 1 of another size (line 4): ",
        "left out: 2 without a finite score (line 5, 7): taste",
        "left out: 1 whose score is no finite number (line 6): taste is 'good'",
        "left out: 1 that repeat another one of their condition (line 26)",
        "left out: 1 of conditions that data.conditions does not have (line 27): 'a horse'",
        "left out: 2 beyond 4 of their condition",
    ):
        assert line in told, told
    assert "has 8 x 8 pixels; samples of the model have 16 x 16" in told
    assert "26 samples, 16 imported" in told
    assert imported_round(tmp_path / "pool").draws == 4


def test_more_samples_of_fewer_conditions(given, tmp_path, capsys):
    folder, rows, _ = given
    written(folder, [row for row in rows if row["prompt"] != PROMPTS[1] or rows.index(row) < 8])
    run_import(tmp_path, folder, f"--draws={EACH}")
    told = capsys.readouterr().out
    assert f"left out: 2 of conditions with fewer than {EACH} (line 3, 7): '{PROMPTS[1]}'" in told
    assert "--data.conditions TextFile" in told
    line = ["fit", config_of(tmp_path), "--data.reward=taste", f"--collect.draws={EACH}"]
    assert "1 others of data.conditions, such as 'two ones', cannot be drawn for it" in refused(capsys, *line)
    own = ["--data.conditions=TextFile", f"--data.conditions.path={tmp_path / 'pool/conditions.jsonl'}"]
    main([*line, *own, "--trainer.max_steps=1"])
    assert json.loads((tmp_path / "run" / COLLECTED).read_text())["conditions"] == len(PROMPTS) - 1
    assert "--draws 9: no condition" in refused(capsys, "import", folder, line[1], "--reward=taste", "--draws=9")


def run_next(told: str) -> None:
    """Runs the command that was printed, as a shell would take it."""
    line = told.split("next: python -m graft_lightning ")[1].splitlines()[0]
    main([*shlex.split(line), "--trainer.max_steps=1"])


def test_the_command_that_is_printed_repeats_what_was_given_and_runs(given, tmp_path, capsys):
    folder, rows, _ = given
    texts = [f" {PROMPTS[0]}", "two twos", PROMPTS[2]]
    written(folder, [{**row, "prompt": texts[i % 4]} for i, row in enumerate(rows) if i % 4 < 3])
    more = ["--data.conditions=Texts", f"--data.conditions.values={json.dumps(texts)}"]
    more += ["--trainer.log_every_n_steps", "7", f"--data.pool={tmp_path / 'an other'}"]
    run_import(tmp_path, folder, *more, "--data.acceptance=TopK", "--data.acceptance.k=8")
    told = capsys.readouterr().out
    assert "18 samples, 18 imported" in told
    assert "TopK: accept k=8, but only M=6 draws per condition" in told
    assert "the command below accepts k=3" in told
    assert "--trainer.log_every_n_steps 7" in told
    run_next(told)
    record = json.loads((tmp_path / "run" / COLLECTED).read_text())
    assert (record["newly_drawn"], record["conditions"]) == (0, len(texts))


def test_the_command_that_is_printed_asks_for_the_conditions_that_there_are(given, tmp_path, capsys):
    """Plain lines could not hold every one of them."""
    folder, rows, _ = given
    texts = [f" {PROMPTS[0]}", "two\nones", PROMPTS[2]]
    written(folder, [{**row, "prompt": texts[i % 4]} for i, row in enumerate(rows) if i % 4 < 3])
    config = config_of(tmp_path, {"data.conditions.values": [*texts, PROMPTS[3]]})
    main(["import", str(folder), config, "--reward=taste", "--data.conditions.values+=two fives"])
    told = capsys.readouterr().out
    assert "18 samples, 18 imported" in told
    assert "two fives" not in told
    run_next(told)
    assert json.loads((tmp_path / "run" / COLLECTED).read_text())["conditions"] == len(texts)


def test_json_lines_and_a_second_import(given, tmp_path, capsys):
    folder, rows, _ = given
    (folder / "table.csv").unlink()
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    run_import(tmp_path, folder)
    before = {path: path.read_bytes() for path in (tmp_path / "pool").rglob("*.safetensors")}
    run_import(tmp_path, folder, "--reward=other")
    after = {path: path.read_bytes() for path in (tmp_path / "pool").rglob("*.safetensors")}
    assert before.items() < after.items()
    assert set(TrajectoryPool.open(tmp_path / "pool").reward_fingerprints()) == {"taste", "other"}
    rows[0]["taste"] = 99
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    config = config_of(tmp_path)
    assert "was made with other settings" in refused(capsys, "import", folder, config, "--reward=taste")
    (folder / rows[0]["file"]).write_bytes((folder / rows[1]["file"]).read_bytes())
    assert "samples" in refused(capsys, "import", folder, config, "--reward=taste")


def test_a_hand_off_and_more_draws_are_refused_before_anything_is_built(given, tmp_path, capsys, monkeypatch):
    run_import(tmp_path, given[0])
    monkeypatch.setattr("graft_lightning.domains.digits.DigitReference.build", None)
    line = ["fit", config_of(tmp_path), "--data.reward=taste"]
    said = refused(capsys, *line, "--collect.draws=4", "--model=PGraft", "--model.handoff=0.25")
    assert "imported samples" in said
    assert "set model.handoff to 0 (Graft)" in said
    said = refused(capsys, *line, "--collect.draws=4", "--model=PGraft", "--model.handoff=0.5", "--model.states=x_0")
    assert "set model.handoff to 0 (Graft)" in said
    said = refused(capsys, *line, "--collect.draws=7")
    assert f"collect.draws=7: {tmp_path / 'pool/round-0000'} holds {EACH} imported samples" in said
    assert "set collect.draws to at most 6" in said
    said = refused(capsys, *line, "--collect.draws=4", "--model.objective=DDPO")
    assert "trains on the steps of trajectories" in said
    said = refused(capsys, *line, "--collect.draws=4", "--collect.rounds=2")
    assert "data.reward='taste' has scores in the pool and nothing that computes them" in said
    said = refused(capsys, "diagnose", line[1], "--collect.draws=4")
    assert "diagnose needs a pool that the reference has drawn" in said


def test_an_export_is_imported_again(tmp_path, capsys):
    """The table of `pool --export` is one of samples; scores keep their names, unless the run has that one itself."""
    main(["collect", config_of(tmp_path)])
    main(["pool", str(tmp_path / "pool"), f"--export={tmp_path / 'look'}"])
    other = tmp_path / "other"
    line = ["import", tmp_path / "look", config_of(other, {"data.conditions.values": PROMPTS})]
    assert "--reward Ink=NAME" in refused(capsys, *line, "--reward=Ink")
    main([str(word) for word in [*line, "--reward=Ink=ink"]])
    one, two = (TrajectoryPool.open(folder / "pool").round(0) for folder in (tmp_path, other))
    torch.testing.assert_close(two.column("x_0"), one.column("x_0").clamp(-1, 1), rtol=0, atol=1 / 255 + 1e-6)
    assert torch.equal(one.rewards("Ink"), two.rewards("ink"))


def test_what_is_no_table_of_samples_is_refused(given, tmp_path, capsys):
    folder, rows, _ = given
    config = config_of(tmp_path)
    assert "neither such a table" in refused(capsys, "import", tmp_path / "none", config, "--reward=taste")
    said = refused(capsys, "import", folder, config, "--reward=beauty")
    assert "should have one column beauty; its columns are file, prompt, taste, other" in said
    assert "there is no such file" in refused(capsys, "import", folder, "--config=no.yaml", "--reward=taste")
    assert "is no table of samples" in refused(capsys, "import", folder / "image-0.png", config, "--reward=taste")
    written(folder, [{**row, "prompt": "a horse"} for row in rows])
    said = refused(capsys, "import", folder, config, "--reward=taste")
    assert f"none of its {len(rows)} samples can be used" in said
    assert "'a horse'" in said
    (folder / "metadata.csv").write_text("file,taste\n")
    assert "has table.csv and metadata.csv" in refused(capsys, "import", folder, config, "--reward=taste")
    assert "holds no sample" in refused(capsys, "import", folder / "metadata.csv", config, "--reward=taste")
    (folder / "a.jsonl").write_text("[1]")
    assert "line 1: it holds list" in refused(capsys, "import", folder / "a.jsonl", config, "--reward=taste")
    assert not (tmp_path / "pool").exists()


def test_a_pool_of_drawn_samples_takes_no_imported_ones(given, tmp_path, capsys):
    main(["collect", config_of(tmp_path)])
    said = refused(capsys, "import", given[0], config_of(tmp_path), "--reward=taste")
    assert "model" in said
    assert "'reference'" in said
