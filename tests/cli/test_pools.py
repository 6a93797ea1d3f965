"""Pools without training: filled, scored further, looked at, judged by a person."""

import csv
import json
import shutil
import subprocess
import sys

import pytest
import torch
import yaml

from graft_lightning.cli.main import main
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.reports.pool_samples import ids_in
from graft_lightning.runs import COLLECTED
from tests.runs import DRAWS, PROMPTS, Ink, arguments, launch, tiny_config

ALL = len(PROMPTS) * DRAWS
CPU = ("--accelerator=cpu",)


class Paper(Ink):
    """How much of the image is dark."""

    def __call__(self, samples, conditions):
        return 1 - super().__call__(samples, conditions)


def collect(folder, changes=None, *more):
    main(arguments("collect", folder, tiny_config(folder, changes), *more))


def refused(capsys, *line) -> str:
    with pytest.raises(SystemExit, match="2"):
        main([str(word) for word in line])
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A pool that was filled, and its export; to be copied."""
    folder = tmp_path_factory.mktemp("filled")
    collect(folder)
    main(["pool", str(folder / "pool"), f"--export={folder / 'look'}"])
    return folder


@pytest.fixture
def own(filled, tmp_path):
    shutil.copytree(filled, tmp_path / "own")
    return tmp_path / "own"


def pool_of(folder):
    return TrajectoryPool.open(folder / "pool")


def test_collect_fills_the_pool_that_a_fit_would(tmp_path, capsys):
    collect(tmp_path / "one")
    told = capsys.readouterr().out
    assert f"newly drawn: {ALL}\n" in told
    assert f"{len(PROMPTS)} conditions x {DRAWS} draws of the reference" in told
    assert not (tmp_path / "one/run/config.yaml").exists()
    launch("fit", tmp_path / "two")
    one, two = (pool_of(tmp_path / name).round(0) for name in ("one", "two"))
    for field in one.fields:
        assert torch.equal(one.column(field), two.column(field)), field
    assert torch.equal(one.rewards("Ink"), two.rewards("Ink"))
    collect(tmp_path / "one", None, "--collect.draws=6")
    assert f"newly drawn: {2 * len(PROMPTS)}\n" in capsys.readouterr().out
    launch("fit", tmp_path / "one")
    assert json.loads((tmp_path / "one/run" / COLLECTED).read_text())["newly_drawn"] == 0
    lines = (tmp_path / "one/pool/collected.jsonl").read_text().splitlines()
    assert [json.loads(line)["drawn"] for line in lines] == [ALL, 2 * len(PROMPTS)]


def test_two_processes_collect_and_rescore_as_one(tmp_path, filled, capfd):
    collect(tmp_path, {"trainer.devices": 2, "trainer.strategy": "ddp_fork"})
    assert f"newly drawn: {ALL}\n" in capfd.readouterr().out
    paper = "--reward=tests.cli.test_pools.Paper"
    main(["rescore", str(tmp_path / "pool"), paper, *CPU, "--devices=2", "--strategy=ddp_fork"])
    two, one = pool_of(tmp_path).round(0), pool_of(filled).round(0)
    torch.testing.assert_close(two.column("x_0"), one.column("x_0"), rtol=0, atol=1e-5)
    torch.testing.assert_close(two.rewards("Paper"), 1 - one.rewards("Ink"), rtol=0, atol=1e-5)


def test_collect_needs_something_to_collect(tmp_path, capsys):
    line = arguments("collect", tmp_path, tiny_config(tmp_path, {"collect.reward": None}))
    assert "collect.reward is not set" in refused(capsys, *line)


@pytest.mark.parametrize("command", ["collect", "diagnose"])
def test_a_prompt_that_is_not_understood_leaves_the_pool_as_it_was(own, capsys, command):
    before = {file: file.stat().st_mtime_ns for file in (own / "pool").rglob("*") if file.name != "lock"}
    line = arguments(command, own, tiny_config(own, {"data.conditions.values": [*PROMPTS, "nonsense"]}))
    assert "data.conditions: prompt 'nonsense' is not understood" in refused(capsys, *line)
    assert {file: file.stat().st_mtime_ns for file in (own / "pool").rglob("*") if file.name != "lock"} == before


def test_rescore_scores_a_pool_and_the_pool_of_a_run(own, capsys):
    main(["rescore", str(own / "pool"), "--reward=tests.cli.test_pools.Paper", *CPU])
    told = capsys.readouterr().out
    assert "Paper" in told
    assert "next: " in told
    opened = pool_of(own).round(0)
    assert torch.equal(opened.rewards("Paper"), 1 - opened.rewards("Ink"))
    launch("fit", own)
    inner = {"rewards": [{"class_path": "tests.runs.Ink"}], "weights": [-1.0]}
    inverse = {"class_path": "WeightedSum", "init_args": inner}
    main(["rescore", str(own / "run"), f"--reward={json.dumps(inverse)}", "--reward=tests.runs.Failing", *CPU])
    names = set(pool_of(own).reward_fingerprints())
    assert {"Ink", "Paper", "Failing"} < names
    assert len(names) == 4


@pytest.mark.usefixtures("warm")
def test_rescore_takes_a_function_by_its_path_and_says_nothing_of_its_own_workings(own):
    (own / "taste.py").write_text("def dark(samples, conditions):\n    return 1 - samples.flatten(1).mean(1)\n")
    line = [sys.executable, "-m", "graft_lightning", "rescore", "pool", "--reward", "taste.dark", *CPU]
    done = subprocess.run(line, cwd=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    opened = pool_of(own).round(0)
    torch.testing.assert_close(opened.rewards("dark"), 1 - opened.rewards("Ink"), rtol=0, atol=1e-6)
    assert "Warning" not in done.stderr
    assert "args parameter" not in done.stderr


def test_rescore_of_nothing_is_refused(tmp_path, own, capsys):
    assert "neither a pool" in refused(capsys, "rescore", tmp_path / "none", "--reward=tests.runs.Ink", *CPU)
    assert "No module named 'no'" in refused(capsys, "rescore", own / "pool", "--reward=no.module.thin", *CPU)
    assert "no.yaml: there is no such file" in refused(capsys, "rescore", own / "pool", "--reward=no.yaml", *CPU)
    assert "WrongShape" in refused(capsys, "rescore", own / "pool", "--reward=tests.runs.WrongShape", *CPU)
    (own / "pool/collected.yaml").unlink()
    assert "--config" in refused(capsys, "rescore", own / "pool", "--reward=tests.cli.test_pools.Paper", *CPU)


def test_configurations_of_a_pool_may_have_layers_and_are_refused_by_name(own, capsys):
    _, config = arguments("fit", own, tiny_config(own, {"model.reference": ...}))
    reference = own / "reference.yaml"
    whole = tiny_config(own)["model"]["init_args"]["reference"]
    reference.write_text(yaml.safe_dump({"model": {"init_args": {"reference": whole}}}))
    main(["pool", str(own / "pool"), config, f"--config={reference}", f"--export={own / 'again'}"])
    for file in (own / "look").glob("*.png"):
        assert (own / "again" / file.name).read_bytes() == file.read_bytes()
    for text, said in (
        ("[1, 2]", "it holds no configuration, but list"),
        ("a: [", "line 1: no YAML"),
        ("data: {}", "describes no run (model, data)"),
    ):
        reference.write_text(text)
        for command in (
            ["pool", f"--export={own / 'third'}"],
            ["rescore", "--reward=tests.cli.test_pools.Paper", *CPU],
        ):
            line = [command[0], own / "pool", *command[1:], f"--config={reference}"]
            message = refused(capsys, *line)
            assert said in message
            assert str(reference) in message


def test_a_pool_says_what_it_holds(own, capsys):
    main(["pool", str(own / "pool")])
    told = capsys.readouterr().out
    ink = pool_of(own).round(0).rewards("Ink")
    (row,) = [line.split() for line in told.splitlines() if line.startswith("  Ink ")]
    assert row[:2] == ["Ink", str(ALL)]
    assert float(row[2]) == pytest.approx(float(ink.mean()), rel=1e-3)
    assert [float(row[4]), float(row[5])] == pytest.approx([float(ink.min()), float(ink.max())], rel=1e-3)
    assert "16 drawn, scored: Ink" in told


def rows(file):
    with open(file, encoding="utf-8-sig", newline="") as opened:
        return list(csv.DictReader(opened))


def test_an_export_has_a_file_a_sample_and_a_table(own, capsys):
    table = rows(own / "look/table.csv")
    assert len(table) == ALL == len(list((own / "look").glob("*.png")))
    opened = pool_of(own).round(0)
    for row in table:
        index = opened.conditions.index(row["condition"]) * DRAWS + int(row["draw"])
        assert (own / "look" / row["file"]).is_file()
        assert row["id"] in row["file"]
        assert int(row["seed"]) == int(opened.read([index])["seed"])
        assert float(row["Ink"]) == pytest.approx(float(opened.rewards("Ink").flatten()[index]), rel=1e-5)
    assert "is not empty" in refused(capsys, "pool", own / "pool", f"--export={own / 'look'}")
    main(["pool", str(own / "pool"), f"--table={own / 'some.csv'}", "--draws=1"])
    assert [row["draw"] for row in rows(own / "some.csv")] == ["0"] * len(PROMPTS)


def test_what_was_deleted_is_never_trained_on(own, capsys):
    files = sorted((own / "look").glob("*.png"))
    gone, renamed = files[: 2 * DRAWS : 3], files[1]  # of other conditions everything is kept
    for file in gone:
        file.unlink()
    renamed.rename(renamed.with_name(f"good {renamed.name}"))
    (own / "look/Thumbs.db").write_bytes(b"")
    (own / "look/.DS_Store").write_bytes(b"")
    shutil.copy(files[2], own / "look" / f"{files[2].stem} (copy).png")
    main(["pool", str(own / "pool"), f"--verdicts={own / 'look'}"])
    told = capsys.readouterr().out
    assert f"human: {ALL} of {ALL} samples judged, {ALL - len(gone)} kept" in told
    assert "passed by: 1 .db" in told
    human = pool_of(own).round(0).rewards("human").flatten()
    rule = {"class_path": "Threshold", "init_args": {"threshold": 0.5}}
    bad = {one for file in gone for one in ids_in(file.name)}
    assert [value == 0 for value in human.tolist()] == [row["id"] in bad for row in rows(own / "look/table.csv")]
    cli = launch("fit", own, {"data.reward": "human", "data.acceptance": rule, "data.drop_without_signal": False})
    assert torch.equal(cli.datamodule.selection.share.flatten() > 0, human > 0)
    record = json.loads((own / "run" / COLLECTED).read_text())
    assert record["reward"] == "human"
    assert set(record["rewards"]) == {"human", "Ink"}


def test_samples_that_came_after_a_persons_verdicts_are_asked_for(own, capsys):
    next((own / "look").glob("*.png")).unlink()
    main(["pool", str(own / "pool"), f"--verdicts={own / 'look'}"])
    rule = {"class_path": "Threshold", "init_args": {"threshold": 0.5}}
    by_eye = {"data.reward": "human", "data.acceptance": rule, "data.drop_without_signal": False}
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        launch("fit", own, {**by_eye, "collect.draws": DRAWS + 2})
    told = capsys.readouterr().err
    assert "'human' lacks" in told
    assert f"{2 * len(PROMPTS)} of {6 * len(PROMPTS)} trajectories have no score" in told
    assert "pool --export" in told
    launch("fit", own, by_eye)  # those that were judged serve as before


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda look, file: file.rename(look / "nice.png"), ["hold no id", "nice.png"]),
        (
            lambda look, file: shutil.copy(file, look / f"s{'0' * 16}.png"),
            ["no sample that was exported", "s000"],
        ),
        (lambda look, file: (look / "exported.json").unlink(), ["lacks exported.json"]),
        (lambda look, file: None, ["none was deleted"]),
        (lambda look, file: [one.unlink() for one in look.glob("*.png")], ["all were deleted"]),
        (
            lambda look, file: (look / "exported.json").write_text('{"pool": "x", "files": {}, "suffixes": []}'),
            ["another pool"],
        ),
    ],
    ids=["renamed", "extra", "no list", "nothing deleted", "all deleted", "another pool"],
)
def test_a_folder_that_cannot_be_read_is_refused(own, capsys, spoil, words):
    look = own / "look"
    spoil(look, next(look.glob("*.png")))
    told = refused(capsys, "pool", own / "pool", f"--verdicts={look}")
    assert all(word in told for word in words), told
    assert "human" not in pool_of(own).reward_fingerprints()


WRITTEN = {
    "commas": "id,score\n{0},1\n{1},0.25\n{2},\n",
    "a mark, semicolons, decimal commas": "\ufeffid;score\r\n{0};1\r\n{1};0,25\r\n{2};NaN\r\n",
    "decimal commas, three decimals": "id;score\n{0};1,000\n{1};0,250\n",
    "a comma in a quoted name": '"good, bad, or ""?""";id;score\n;{0};1\n;{1};0,25\n',
    "quoted, other columns, other case": 'Note,ID,Score\n"good, really","{0}","1"\n,{1},"0,25"\n,{2},""\n',
    "tabs": "score\tid\n1\t{0}\n0.25\t{1}\n\n",
    "twice the same": "id,score\n{0},1\n{0},1.0\n{1},2.5e-1\n",
    "two columns": "id,rating\n{0},1\n{1},.25\n",
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_table_is_read_as_spreadsheets_write_it(own, capsys, how):
    ids = [row["id"] for row in rows(own / "look/table.csv")]
    (own / "mine.csv").write_text(WRITTEN[how].format(*ids), encoding="utf-8", newline="")
    main(["pool", str(own / "pool"), f"--verdicts={own / 'mine.csv'}", "--name=taste"])
    assert "taste: 2 of 16 samples judged" in capsys.readouterr().out
    found = pool_of(own).round(0).rewards("taste").flatten()
    assert found[:2].tolist() == [1.0, 0.25]
    assert found[2:].isnan().all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("{0},1\n{1},0\n", ["header", "'id'"]),
        ("id,grade,note\n{0},1,\n", ["'score'", "id, grade, note"]),
        ("id,score\n{0},1\n{1},good\n", ["line 3", "'good'"]),
        ("id,score\n{0},inf\n", ["line 2", "'inf'"]),
        ("id;score\n{0};1.234,5\n", ["line 2", "1.234,5"]),
        ("id,score\n{0},0,5\n", ["line 2", "3 fields"]),
        ('id,score\n{0},"0,5"\n{1},"1,000"\n', ["line 3: score '1,000' may be 1000", "write 1000"]),
        ("id;score\n{0};999\n{1};1,000\n", ["line 3: score '1,000' may be 1000"]),
        ("id;score\n{0};0,5\n{1};1.000\n", ["line 3: score '1.000' may be 1000", "a decimal comma"]),
        ("id,score\n{0},1\n\n{0},0\n", ["line 4", "in line 2"]),
        ("id,score\nsdeadbeef,1\n", ["line 2", "'sdeadbeef'"]),
        ("id,score\n{0},\n", ["no row has a score"]),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_by_its_line(own, capsys, text, words):
    ids = [row["id"] for row in rows(own / "look/table.csv")]
    (own / "mine.csv").write_text(text.format(*ids), encoding="utf-8")
    told = refused(capsys, "pool", own / "pool", f"--verdicts={own / 'mine.csv'}")
    assert all(word in told for word in ["mine.csv", *words]), told


def test_good_ones_alone_may_be_marked(own, capsys):
    one = rows(own / "look/table.csv")[0]["id"]
    (own / "mine.csv").write_text(f"id,score\n{one},1\n")
    main(["pool", str(own / "pool"), f"--verdicts={own / 'mine.csv'}"])
    told = capsys.readouterr().out
    assert "1 of 16 samples judged, 1 kept" in told
    assert "--data.acceptance Threshold --data.acceptance.threshold 0.5" in told


def test_other_verdicts_need_another_name_or_replace_the_first(own, capsys):
    ids = [row["id"] for row in rows(own / "look/table.csv")]
    for number, score in enumerate((1, 0)):
        (own / f"{number}.csv").write_text(f"id,score\n{ids[0]},{score}\n{ids[1]},{1 - score}\n")
    main(["pool", str(own / "pool"), f"--verdicts={own / '0.csv'}"])
    main(["pool", str(own / "pool"), f"--verdicts={own / '0.csv'}"])
    assert "--replace" in refused(capsys, "pool", own / "pool", f"--verdicts={own / '1.csv'}")
    main(["pool", str(own / "pool"), f"--verdicts={own / '1.csv'}", "--replace"])
    assert pool_of(own).round(0).rewards("human").flatten()[:2].tolist() == [0.0, 1.0]
    assert len(pool_of(own).reward_fingerprints()) == 3, "the first ones are put aside, not lost"
    assert "'a/b'" in refused(capsys, "pool", own / "pool", f"--verdicts={own / '0.csv'}", "--name=a/b")


def test_the_pool_keeps_what_decodes_it_and_no_reward(filled):
    kept = yaml.safe_load((filled / "pool/collected.yaml").read_text())
    assert set(kept) == {"seed_everything", "model", "data"}
