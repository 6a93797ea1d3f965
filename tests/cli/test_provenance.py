"""What a run says of itself is true: only `fit` writes it, and weights, rule and records belong together."""

import importlib
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from graft_lightning.cli.lightning import run_lightning
from graft_lightning.cli.loading import open_run
from graft_lightning.cli.main import main
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.reward import Reward
from graft_lightning.runs import CONFIG, RUN, last_records, newest_checkpoint, read_records, run_in
from graft_lightning.types import SettingsError
from tests.runs import HELD_OUT, PROMPTS, arguments, launch, tiny_config

ROOT = Path(__file__).parents[2]
FEW = {
    "data": {
        "init_args": {
            "conditions": {"class_path": "Texts", "init_args": {"values": PROMPTS}},
            "validation": {"class_path": "Texts", "init_args": {"values": HELD_OUT}},
            "test": {"class_path": "Texts", "init_args": {"values": HELD_OUT[:2]}},
            "batch_size": 4,
            "steps_per_epoch": 2,
            "eval_draws": 2,
        }
    },
    "collect": {"draws": 8, "batch_size": 16},
    "trainer": {"max_steps": 4, "enable_progress_bar": False, "enable_model_summary": False},
}
"""A layer over an experiment of digits."""


def files_below(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def assert_only_added(before, folder, may_grow=()):
    now = files_below(folder)
    for file, content in before.items():
        if file.name in may_grow:
            assert now[file].startswith(content), file
        else:
            assert now[file] == content, file


def block() -> list[list[str]]:
    """The commands of the first block in the README that plans a run, up to the report, but for a sweep elsewhere."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [
        shlex.split(line, comments=True)[3:] for line in re.findall(r"^    python -m graft_lightning .*", text, re.M)
    ]
    start = next(i for i, line in enumerate(lines) if line[0] == "plan")
    stop = next(i for i, line in enumerate(lines) if i > start and line[0] == "report")
    return [line for line in lines[start : stop + 1] if line[0] != "sweep"]


def table_of(samples: Path) -> Path:
    """A table of the pictures of a folder, with a prompt and a score each, as somebody would write it."""
    files = sorted(samples.glob("*.png"))
    rows = [f"{file.name},{prompt},{score}" for score, (file, prompt) in enumerate(zip(files, PROMPTS, strict=False))]
    table = samples / "table.csv"
    table.write_text("\n".join(["file,prompt,taste", *rows]))
    return table


def test_after_the_block_of_the_readme_everything_agrees(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("experiments", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(FEW))
    runs, before, told = tmp_path / "runs/digits", {}, {}
    for line in block():
        command = line[0]
        more = [] if command == "report" else ["--config=few.yaml"]
        more += ["--states=16", "--continuations=2"] if command == "diagnose" else []
        place = line.index("--config") + 2 if more else 0
        if command == "import":
            own = {"TABLE": str(table_of(runs / "pgraft/samples")), "COLUMN": "taste"}
            line = [own.get(word, word) for word in line]
            before = files_below(runs)
        main([*line[:place], *more, *line[place:]] if more else line)
        told[command] = capsys.readouterr().out
        grows = ("evaluation.jsonl", "alarms.jsonl") if command == "test" else ()
        assert_only_added(before, runs, (*grows, "collected.jsonl", "lock"))
        before = files_below(runs)
    assert {"plan", "fit", "diagnose", "test", "predict", "import", "report"} <= told.keys()
    assert "2 samples, 2 imported" in told["import"]
    for name, handoff, k in (("pgraft", 0.25, 8), ("pgraft-2", 0.5, 4)):
        run = runs / name
        config = yaml.safe_load((run / CONFIG).read_text())
        assert config["model"]["init_args"]["handoff"] == handoff
        assert config["data"]["init_args"]["acceptance"]["init_args"] == {"k": k}
        collected = json.loads((run / "collected.json").read_text())
        assert collected["acceptance_settings"] == {"k": k}
        weights = torch.load(newest_checkpoint(run), weights_only=True)
        assert len(list(run.rglob("last*.ckpt"))) == 1
        assert {collected["run"], weights["run"]} == {run_in(run)}
        assert {record["run"] for record in read_records(run)} == {run_in(run)}
        assert {record["method"] for record in read_records(run)} == {"base", f"pgraft@{handoff:g}"}
    drawn = [json.loads(line)["drawn"] for line in (runs / "pool/collected.jsonl").read_text().splitlines()]
    assert drawn == [len(PROMPTS) * 8]
    report = (runs / "report.md").read_text()
    assert "| base |" in report
    assert "| pgraft@0.25 |" in report
    assert "Left out" not in report
    assert "next: python -m graft_lightning test" in told["fit"]
    assert f"records: {Path('runs/digits/pgraft/evaluation.jsonl')}" in told["test"]
    scores = [line.split() for line in told["test"].splitlines()]
    assert ["base", "pgraft@0.25"] in scores
    (reward,) = [line for line in scores if line[:1] == ["DigitPairReward"]]
    tested = {
        r["method"]: r["metrics"]["DigitPairReward"]["mean"]
        for r in last_records(runs / "pgraft")
        if r["stage"] == "test"
    }
    assert [float(word) for word in reward[1:] if word[0].isdigit() and "]" not in word] == pytest.approx(
        [tested["base"], tested["pgraft@0.25"]], abs=6e-4
    )
    assert "samples: runs/digits/pgraft/samples" in told["predict"]
    assert "next: look at them; python -m graft_lightning report runs/digits/pgraft\n" in told["predict"]
    assert len(list((runs / "pgraft/samples").glob("*.png"))) == 2


def test_what_is_written_is_what_was_run(tmp_path):
    """As the parser writes a configuration, though it is asked once: with the folder that the second run was given."""
    launch("fit", tmp_path, {"trainer.max_steps": 1})
    cli = launch("fit", tmp_path, {"trainer.max_steps": 1, "model.optimizer.lr": 0.5})
    folder = tmp_path / "run-2"
    assert cli.config["fit"].trainer.logger.init_args.name == folder.name
    assert (folder / CONFIG).read_text() == cli._parser("fit").dump(cli.config["fit"], skip_none=False)
    again = cli.parser.dump(cli.config, skip_link_targets=False, skip_none=False)
    assert cli.config_dump == yaml.safe_load(again)["fit"]


def test_commands_that_look_at_a_run_change_nothing_that_a_fit_has_left(tmp_path, capsys):
    launch("fit", tmp_path)
    before, pool, look = files_below(tmp_path), str(tmp_path / "pool"), str(tmp_path / "look")
    for line in (
        ["pool", pool],
        ["pool", str(tmp_path / "run")],
        ["pool", pool, f"--table={look}.csv"],
        ["pool", pool, f"--export={look}"],
        ["report", str(tmp_path / "run"), "--stage=validate"],
    ):
        main(line)
        assert_only_added(before, tmp_path)
    for command in ("plan", "diagnose", "collect", "predict"):
        launch(command, tmp_path)
        assert_only_added(before, tmp_path, ("lock",))


def keyed(samples, conditions, key):
    assert key == "sekret-123"
    return samples.flatten(1).mean(1)


@pytest.mark.parametrize("where", ["layer.yaml", "layer.conf", "a part.json"])
def test_a_run_that_takes_a_key_from_the_environment_goes_on(tmp_path, monkeypatch, capfd, where):
    """What is written down refers to it; the run of the same settings is found all the same, and nothing shows it."""
    monkeypatch.setenv("KEY_OF_A_JUDGE", "sekret-123")
    own = {"function": "tests.cli.test_provenance.keyed", "arguments": {"key": "${oc.env:KEY_OF_A_JUDGE}"}}
    reward = {"class_path": "FunctionReward", "init_args": own}
    config = tiny_config(tmp_path, {"collect.reward": reward, "trainer.max_steps": 1})
    layer, words = tmp_path / where, []
    if layer.suffix == ".json":  # of the reward alone
        del config["collect"]["reward"]
        layer.write_text(json.dumps(reward))
        layer, words = tmp_path / "layer.yaml", ["--collect.reward", str(layer)]
    layer.write_text(yaml.safe_dump(config))

    def run(command, *more):
        return run_lightning([command, f"-c={layer}", *words, *more])

    run("fit")
    written = (tmp_path / "run" / CONFIG).read_text()
    run("fit")
    assert "goes on from" in capfd.readouterr().err
    run("fit", "--ckpt_path=last")
    run("predict", "--ckpt_path=last")
    assert not (tmp_path / "run-2").exists()
    assert (tmp_path / "run" / CONFIG).read_text().count("${oc.env:KEY_OF_A_JUDGE}") == 1
    assert yaml.safe_load(written)["collect"]["reward"]["init_args"].items() >= own.items()
    with pytest.raises(SystemExit):
        run("fit", "--ckpt_path=last", "--model.optimizer.lr=0.5", "--collect.reward.arguments.key=other")
    told = capfd.readouterr()
    assert "${oc.env:KEY_OF_A_JUDGE}' there, 'other' here" in told.err
    kept = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert not [content for content in [*kept, told.out.encode(), told.err.encode()] if b"sekret-123" in content]


def test_a_report_of_a_fit_alone_says_what_comes_next(tmp_path, capsys):
    launch("fit", tmp_path)
    with pytest.raises(SystemExit, match="1"):
        main(["report", str(tmp_path / "run")])
    told = capsys.readouterr().err
    assert "no test records" in told
    assert "run `python -m graft_lightning test --config" in told
    assert "--stage validate" in told
    assert not (tmp_path / "run/report.md").exists()
    main(["report", str(tmp_path / "run"), "--stage=validate"])
    assert "| base |" in (tmp_path / "run/report.md").read_text()


def test_the_same_command_again_goes_on_and_repeats_nothing(tmp_path, capsys):
    first = launch("fit", tmp_path)
    before = files_below(tmp_path / "run/checkpoints")
    capsys.readouterr()
    again = launch("fit", tmp_path)
    assert "goes on from checkpoints/last.ckpt" in capsys.readouterr().err
    assert again.trainer.global_step == first.trainer.global_step == 10
    assert {file: before[file] for file in before if file.name != "last.ckpt"}.items() <= files_below(
        tmp_path / "run/checkpoints"
    ).items()
    assert not (tmp_path / "run-2").exists()
    longer = launch("fit", tmp_path, {"trainer.max_steps": 12}, "--ckpt_path=last")
    assert longer.trainer.global_step == 12
    assert not (tmp_path / "run-2").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"data.acceptance.k": 1},
        {"model.optimizer.lr": 0.1},
        {"seed_everything": 4},
        {"collect.reward": {"class_path": "tests.runs.Failing"}},
    ],
    ids=["rule", "optimiser", "seed", "reward"],
)
def test_other_settings_go_elsewhere_and_come_back_to_their_own(tmp_path, changes, capsys):
    elsewhere = {**changes, "data.pool": str(tmp_path / "other")}
    launch("fit", tmp_path)
    launch("fit", tmp_path, elsewhere)
    told = capsys.readouterr().err
    assert "run holds another run" in told
    assert next(iter(changes)).split(".")[-1] in told
    ids = {run_in(tmp_path / name) for name in ("run", "run-2")}
    assert len(ids) == 2
    launch("test", tmp_path, elsewhere, "--ckpt_path=last")
    assert "test" in {record["stage"] for record in read_records(tmp_path / "run-2")}
    assert "test" not in {record["stage"] for record in read_records(tmp_path / "run")}
    launch("fit", tmp_path, elsewhere)
    assert not (tmp_path / "run-3").exists()


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "first of two"])
def test_a_run_of_a_logger_without_folders_of_its_own_goes_on(tmp_path, beside):
    folder = tmp_path / "gallery"
    one = {"class_path": "tests.callbacks.test_loggers.Gallery", "init_args": {"save_dir": str(folder)}}
    table = {"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path), "name": "x", "version": "a"}}
    settings = {"trainer.logger": [one, table] if beside else one, "trainer.max_steps": 2}
    first = launch("fit", tmp_path, settings)
    assert first.trainer.global_step == 2
    further = launch("fit", tmp_path, {**settings, "trainer.max_steps": 4}, "--ckpt_path=last")
    assert further.trainer.global_step == 4
    assert run_in(folder) is not None
    assert {len(list(folder.rglob("last.ckpt"))), len(list(tmp_path.rglob("last.ckpt")))} == {1}
    launch("test", tmp_path, settings, "--ckpt_path=last")
    assert "test" in {record["stage"] for record in read_records(folder)}
    launch("fit", tmp_path, {**settings, "data.acceptance.k": 1})
    assert (tmp_path / "gallery-2" / CONFIG).is_file()


def test_when_a_reward_is_asked_makes_no_other_run(tmp_path):
    """A run of before there was that argument, and one that had it set otherwise, go on."""

    def fit(**more):
        reward = {"class_path": "FunctionReward", "init_args": {"function": "tests.cli.test_provenance.ink", **more}}
        return launch("fit", tmp_path, {"collect.reward": reward, "evaluate.rewards": [reward], "trainer.max_steps": 2})

    fit()
    config = tmp_path / "run" / CONFIG
    text = config.read_text()
    assert "apart: false" in text
    config.write_text("\n".join(line for line in text.splitlines() if "apart:" not in line))
    fit()
    fit(apart=True)
    assert not (tmp_path / "run-2").exists()


def ink(samples, conditions):
    return samples.flatten(1).mean(1)


@pytest.mark.parametrize("kind", ["csv", "none", "two"])
def test_no_logger_lets_two_runs_share_a_folder(tmp_path, capsys, kind):
    board = {"class_path": "TensorBoardLogger", "init_args": {"save_dir": str(tmp_path), "name": "x", "version": "a"}}
    table = {"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path), "name": "x", "version": "a"}}
    logger = {"csv": table, "none": False, "two": [board, table]}[kind]
    settings = {"trainer.logger": logger, "trainer.default_root_dir": str(tmp_path / "root"), "trainer.max_steps": 5}
    launch("fit", tmp_path, settings)
    other = {**settings, "data.acceptance.k": 1}
    if kind == "none":
        with pytest.raises(SystemExit, match="2"):
            launch("fit", tmp_path, other)
        assert "holds the checkpoints of another run" in capsys.readouterr().err
        return
    launch("fit", tmp_path, other)
    found = sorted(file.parent for file in tmp_path.rglob(CONFIG))
    assert found == [tmp_path / "x/a", tmp_path / "x/a-2"]
    assert len({run_in(folder) for folder in found}) == 2
    assert {len(list(folder.rglob("last.ckpt"))) for folder in found} == {1}


def test_the_last_checkpoint_of_nothing_is_not_evaluated(tmp_path, capsys):
    for command in ("test", "validate", "predict"):
        with pytest.raises(SystemExit, match="2"):
            launch(command, tmp_path, {}, "--ckpt_path=last")
        assert "run holds no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "run/evaluation.jsonl").exists()


TASTE = {"class_path": "taste.Taste"}


@pytest.fixture
def taste(tmp_path, monkeypatch):
    """Writes a reward of the user's with a sign, as an edit would."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(sign):
        (tmp_path / "taste.py").write_text(
            "from graft_lightning.rejection.reward import Reward\n\n\nclass Taste(Reward):\n"
            f"    def __call__(self, samples, conditions):\n        return {sign}samples.flatten(1).mean(1)\n"
        )
        sys.modules.pop("taste", None)
        importlib.invalidate_caches()

    yield write
    sys.modules.pop("taste", None)


def test_a_run_does_not_go_on_by_a_reward_that_was_edited(tmp_path, capsys, taste):
    def fit(sign, **changes):
        taste(sign)
        launch("fit", tmp_path, {"trainer.max_steps": 5, "collect.reward": TASTE, **changes})

    fit("")
    with pytest.raises(SystemExit, match="2"):
        fit("-")
    capsys.readouterr()
    for command in ("validate", "test"):
        with pytest.raises(SystemExit, match="2"):
            launch(command, tmp_path, {"collect.reward": TASTE}, "--ckpt_path=last")
        assert "was trained on another reward of the same name" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "pool")
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        fit("-")
    assert "reward Taste: " in capsys.readouterr().err
    fit("-", **{"data.rescore": True})
    assert run_in(tmp_path / "run") != run_in(tmp_path / "run-2")
    assert json.loads((tmp_path / "run-2/collected.json").read_text())["rewards"]["Taste"]["all"] < 0
    main(["report", str(tmp_path), "--stage=validate"])
    assert "Taste is one reward in" in (tmp_path / "report.md").read_text()


def test_scores_of_a_judge_that_was_edited_stand_beside_none_of_its_former_ones(tmp_path, taste):
    taste("")
    changes = {"trainer.max_steps": 5, "evaluate.rewards": [TASTE]}
    launch("fit", tmp_path, changes)
    base, tuned = read_records(tmp_path / "run")
    assert {"Ink", "Taste"} == base["scores"].keys() == tuned["scores"].keys()
    taste("-")
    launch("validate", tmp_path, changes, "--ckpt_path=last")
    base, tuned = read_records(tmp_path / "run")
    assert "Taste" not in {**base["scores"], **base["metrics"]}
    assert tuned["metrics"]["Taste"]["mean"] == -tuned["metrics"]["Ink"]["mean"]
    main(["report", str(tmp_path / "run"), "--stage=validate"])
    report = (tmp_path / "run/report.md").read_text()
    assert "Taste is of a reward that was edited since" in report
    row = next(line for line in report.splitlines() if line.startswith("| base "))
    assert row.count("|") == next(line for line in report.splitlines() if line.startswith("| method ")).count("|")


class ByNetwork(Reward):
    """As the guide has it: the first call loads what scores."""

    def __init__(self, pixels=256):
        self.pixels, self.network, self.calls = pixels, None, 0

    def __call__(self, samples, conditions):
        if self.network is None:
            self.network = torch.nn.Linear(self.pixels, 1)
        self.calls += 1
        return self.network(samples.flatten(1))[:, 0]


def test_a_reward_that_loads_its_network_late_is_one_reward(tmp_path):
    changes = {"collect.reward": {"class_path": "tests.cli.test_provenance.ByNetwork"}, "trainer.max_steps": 5}
    launch("fit", tmp_path, changes)
    launch("fit", tmp_path, {**changes, "trainer.max_steps": 10}, "--ckpt_path=last")
    (ends,) = {torch.load(file)["global_step"] for file in (tmp_path / "run/checkpoints").glob("last.ckpt")}
    assert ends == 10
    launch("collect", tmp_path, {**changes, "collect.draws": 5})
    assert set(TrajectoryPool.open(tmp_path / "pool").reward_fingerprints()) == {"ByNetwork"}


def test_a_run_does_not_go_on_with_other_settings(tmp_path, capsys):
    launch("fit", tmp_path, {"trainer.max_steps": 5})
    with pytest.raises(SystemExit, match="2"):
        launch("fit", tmp_path, {"data.acceptance.k": 1}, "--ckpt_path=last")
    told = capsys.readouterr().err
    assert "acceptance.init_args.k: 2 there, 1 here" in told
    with pytest.raises(SystemExit, match="2"):
        launch("test", tmp_path, {"model.handoff": 0.5}, "--ckpt_path=last")


def test_a_report_gives_runs_of_other_rules_rows_of_their_own(tmp_path):
    few = {"trainer.max_steps": 5}
    launch("fit", tmp_path, few)
    launch("fit", tmp_path, {**few, "data.acceptance.k": 1})
    launch("fit", tmp_path, {**few, "model.optimizer.lr": 0.02})
    main(["report", str(tmp_path), "--stage=validate"])
    table = (tmp_path / "report.md").read_text()
    rows = [line.split(" | ")[0] for line in table.splitlines() if line.startswith(("| base", "| pgraft"))]
    assert rows[:4] == [
        "| base",
        "| pgraft@0.25, TopK(k=2) of Ink, run",
        "| pgraft@0.25, TopK(k=1) of Ink",
        "| pgraft@0.25, TopK(k=2) of Ink, run-3",
    ]


def test_a_run_that_goes_on_from_the_checkpoint_of_another_is_a_run_of_its_own(tmp_path):
    launch("fit", tmp_path, {"trainer.max_steps": 5})
    file = newest_checkpoint(tmp_path / "run")
    launch("fit", tmp_path, {"data.acceptance.k": 1}, f"--ckpt_path={file}")
    one, two = run_in(tmp_path / "run"), run_in(tmp_path / "run-2")
    assert json.loads((tmp_path / "run-2" / RUN).read_text())["from"] == str(file)
    assert torch.load(newest_checkpoint(tmp_path / "run-2"), weights_only=True)["run"] == two != one
    assert {record["run"] for record in read_records(tmp_path / "run-2")} == {two}


def test_a_checkpoint_is_evaluated_in_the_folder_of_its_run(tmp_path, capsys):
    launch("fit", tmp_path)
    elsewhere = tiny_config(tmp_path, {"trainer.logger.name": "unheard-of", "model.states": "x_0"})
    last = f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    main(arguments("test", tmp_path, elsewhere, last))
    assert "fitted with other settings" in capsys.readouterr().err
    assert not (tmp_path / "unheard-of").exists()
    assert "test" in {record["stage"] for record in read_records(tmp_path / "run")}


def test_records_of_another_fit_are_left_out_and_told(tmp_path):
    launch("fit", tmp_path)
    launch("fit", tmp_path / "other", {"seed_everything": 4})
    strange = tmp_path / "run/checkpoints/strange.ckpt"
    shutil.copy(tmp_path / "other/run/checkpoints/last.ckpt", strange)
    shutil.copy(tmp_path / "other/run/collected.json", tmp_path / "run/collected.json")
    launch("test", tmp_path, None, f"--ckpt_path={strange}")
    assert "test" not in {record["stage"] for record in read_records(tmp_path / "run")}
    main(["report", str(tmp_path / "run"), "--stage=validate"])
    report = (tmp_path / "run/report.md").read_text()
    assert "2 records are of another fit" in report
    assert "collected.json says by which rule another fit" in report
    assert "One-round ceiling" not in report


def test_a_checkpoint_of_another_run_is_neither_opened_nor_exported(tmp_path, capsys):
    launch("fit", tmp_path)
    launch("fit", tmp_path, {"model.optimizer.lr": 0.1})
    strange = newest_checkpoint(tmp_path / "run-2")
    with pytest.raises(SettingsError, match="of another fit"):
        open_run(tmp_path / "run", strange)
    assert open_run(strange).run == run_in(tmp_path / "run-2")


@pytest.mark.parametrize("command", ["plan", "diagnose", "collect"])
def test_a_runs_own_configuration_serves_every_command(tmp_path, capsys, command):
    """It says where checkpoints are, of which these commands have no use; and they work in the folder of that run."""
    for steps in (1, 2):
        launch("fit", tmp_path, {"trainer.max_steps": steps})
    capsys.readouterr()
    main([command, f"--config={tmp_path / 'run' / CONFIG}"])
    assert (tmp_path / "run-2").is_dir()
    assert (tmp_path / "run/diagnose.json").is_file() == (command == "diagnose")
    with pytest.raises(SystemExit) as leave:
        main([command, f"--config={tmp_path / 'run' / CONFIG}", "--ckpt_path=x.ckpt"])
    assert leave.value.code == 2
    said = capsys.readouterr().err
    assert f"error: ckpt_path=x.ckpt, but {command} looks at the reference, not at a checkpoint" in said


def test_commands_that_train_nothing_leave_no_trace_of_a_run(tmp_path):
    for command in ("validate", "test", "predict", "plan", "collect"):
        launch(command, tmp_path)
    names = {file.name for file in (tmp_path / "run").rglob("*")}
    assert names.isdisjoint({CONFIG, RUN, "hparams.yaml", "collected.json"})
    launch("fit", tmp_path)
    assert {CONFIG, RUN, "hparams.yaml", "collected.json"} <= {file.name for file in (tmp_path / "run").rglob("*")}
