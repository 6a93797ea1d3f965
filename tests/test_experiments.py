"""Every YAML under experiments/ is parsed and built; slow: each is run, two steps long."""

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch  # before anything in it is replaced
import torch

from graft_lightning import domains
from graft_lightning.callbacks import Collect
from graft_lightning.cli.chain import arguments
from graft_lightning.cli.lightning import GraftCLI, run_lightning
from graft_lightning.cli.sweep_file import Plan, read_plan
from graft_lightning.cli.written import read_yaml
from graft_lightning.domains.base.weights import DATA
from graft_lightning.modules import RealData
from graft_lightning.rejection.pool import TrajectoryPool

ROOT = Path(__file__).parents[1]
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "experiments").rglob("*.yaml"))
TEXTS = {file: read_yaml(ROOT / file) for file in FILES}
SWEEPS = [file for file in FILES if "chains" in TEXTS[file]]
RUNS = [file for file in FILES if "class_path" in TEXTS[file].get("model", {})]
LAYERS = [file for file in FILES if file not in SWEEPS + RUNS]


@cache
def plan_of(file: Path) -> Plan:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return read_plan(file, Path("/nowhere"))


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def built_only(monkeypatch):
    """Commands end before anything is run."""
    monkeypatch.setattr(GraftCLI, "_run_subcommand", lambda self, subcommand: None)


def test_there_are_experiments_of_each_kind():
    assert len(RUNS) >= 3
    assert SWEEPS


@pytest.mark.parametrize("file", RUNS, ids=str)
def test_an_experiment_is_built_and_nothing_is_loaded(file, built_only, monkeypatch):
    def load(*arguments, **keywords):
        raise AssertionError("a constructor loads something")

    monkeypatch.setattr(safetensors, "safe_open", load)
    monkeypatch.setattr(safetensors.torch, "load_file", load)
    monkeypatch.setattr(torch, "load", load)
    cli = run_lightning(["fit", f"--config={file}"])
    assert cli.model.views is None
    assert not list(cli.model.parameters())
    collect = next(callback for callback in cli.trainer.callbacks if isinstance(callback, Collect))
    if collect.reward is not None:
        collect.check(cli.model, cli.datamodule)
    if isinstance(cli.model, RealData):
        return  # there is nothing to fit
    checkpoints = [vars(callback) for callback in cli.trainer.checkpoint_callbacks]
    assert any(found["save_last"] for found in checkpoints), "`fit --ckpt_path last` would find nothing to go on from"


@pytest.mark.parametrize("file", [*RUNS, *SWEEPS], ids=str)
def test_an_experiment_says_how_it_is_run(file):
    head = [line for line in (ROOT / file).read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert head, "its first lines say what it shows"


def kind_of(value: object) -> object:
    """What the parser holds a value against: classes and names count, numbers and texts do not."""
    if isinstance(value, dict):
        return {key: value[key] if key == "class_path" else kind_of(value[key]) for key in sorted(value)}
    return [kind_of(one) for one in value] if isinstance(value, list) else type(value).__name__


def unique_cells() -> list:
    """Cells of which each has a setting, over the configurations that it goes over, that none before it has."""
    found, known = [], set()
    for file in SWEEPS:
        for chain in plan_of(file).chains:
            for cell in chain.cells:
                settings = cell.settings.items() or [("", None)]
                own = {json.dumps([list(cell.config), key, kind_of(value)]) for key, value in settings}
                if own - known:
                    found.append(pytest.param(chain, cell, id=f"{file.stem} {chain.name} {cell.name}"))
                known |= own
    return found


def shown_commands(file: Path) -> list[list[str]]:
    """The command lines in the head of a file, split; continued lines are joined."""
    head = [line.lstrip("# ") for line in (ROOT / file).read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    lines = "\n".join(head).replace("\\\n", " ").splitlines()
    return [line.split()[3:] for line in lines if line.startswith("python -m graft_lightning ")]


def whole_parser():
    """The parser of the command line, for all commands and of all domains."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(GraftCLI, "only_asked", False)
        domains.load_all()
        patch.setattr(GraftCLI, "_run_subcommand", lambda self, subcommand: None)
        patch.setattr(GraftCLI, "instantiate_classes", lambda self: None)
        return run_lightning(["fit", f"--config={RUNS[0]}"]).parser


@pytest.fixture(scope="module")
def parser():
    """Built once."""
    return whole_parser()


@pytest.mark.parametrize(("chain", "cell"), unique_cells())
def test_the_command_lines_of_a_cell_are_understood(parser, tmp_path, chain, cell):
    """The first; those after it have the same settings, and the checkpoint that it left."""
    (tmp_path / "last.ckpt").touch()
    first, *others = ([command, *arguments(chain, cell, tmp_path, command)] for command in cell.commands)
    parsed = parser.parse_args(first)[first[0]]
    assert parsed.seed_everything == chain.seed
    assert parsed.trainer.logger.init_args.name == cell.name
    assert "{" not in json.dumps(str(parsed.data.init_args.get("pool", "")))
    assert (parsed.get("ckpt_path") is not None) == ("ckpt_path" in cell.settings)
    trained = [f"--ckpt_path={tmp_path / 'last.ckpt'}"] if first[0] == "fit" else []
    assert [line[1:] for line in others] == [first[1:] + trained] * len(others)


@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_cell_goes_on_from_its_own_checkpoint(parser, tmp_path, command):
    (tmp_path / "last.ckpt").touch()
    chain, cell = next(
        (chain, cell)
        for file in SWEEPS
        for chain in plan_of(file).chains
        for cell in chain.cells
        if cell.commands[0] == "fit" and command in cell.commands
    )
    parsed = parser.parse_args([command, *arguments(chain, cell, tmp_path, command)])[command]
    assert parsed.ckpt_path == str(tmp_path / "last.ckpt")


@pytest.mark.parametrize("file", SWEEPS, ids=str)
def test_layers_belong_to_a_sweep_and_reports_speak_of_its_cells(file):
    plan = plan_of(file)
    used = {config for chain in plan.chains for cell in chain.cells for config in cell.config}
    assert all((ROOT / config).is_file() for config in used)
    names = [cell.name for chain in plan.chains for cell in chain.cells]
    for curve in plan.report.get("curves", {}).values():
        assert any(name.startswith(tuple(curve["runs"])) for name in names), curve
    for heading, prefix in plan.report.get("groups", {}).items():
        assert any(chain.name.startswith(prefix) for chain in plan.chains), heading


@pytest.mark.parametrize("file", SWEEPS, ids=str)
def test_a_report_shows_every_row_once(file):
    """A named row has its place in the order, and a chain that is tested is in one group: none mixes two pools."""
    plan = plan_of(file)
    stage = plan.report.get("stage", "test")
    tested = [(chain, cell) for chain in plan.chains for cell in chain.cells if stage in cell.commands]
    if order := plan.report.get("order"):
        named = {cell.settings["evaluate.method"] for _, cell in tested if cell.settings.get("evaluate.method")}
        assert named <= set(order)
    if groups := plan.report.get("groups", {}).values():
        assert all(sum(chain.name.startswith(prefix) for prefix in groups) == 1 for chain, _ in tested)


ODE_ROWS = {
    "digits": ("deterministic-", "", ["base", "graft", "pgraft@0.25", "pgraft@0.5", "pgraft@0.75"], 40),
    "molecules": (
        "mixed-",
        "mixed: ",
        ["base", "graft, de-duplicated", "pgraft@0.1", "pgraft@0.25", "pgraft@0.5"],
        50,
    ),
}


@pytest.mark.parametrize(("domain", "rows"), ODE_ROWS.items(), ids=ODE_ROWS)
def test_graft_and_p_graft_are_compared_under_a_deterministic_sampler_too(parser, tmp_path, domain, rows):
    """At eta 0, with the seeds, draws, steps and rule of the rows by ancestral sampling, from pools of their own."""
    prefix, label, methods, steps = rows
    chains = plan_of(Path(f"experiments/{domain}/reproduce.yaml")).chains
    found, others = ([chain for chain in chains if chain.name.startswith(beginning)] for beginning in (prefix, "seed-"))
    assert [chain.seed for chain in found] == [chain.seed for chain in others]
    (tmp_path / "last.ckpt").touch()

    def parsed(chain, cell):
        return parser.parse_args(["fit", *arguments(chain, cell, tmp_path, "fit")])["fit"]

    drawn = parsed(others[0], next(cell for cell in others[0].cells if cell.config[0].endswith("/pgraft.yaml")))
    for chain in found:
        assert [cell.settings["evaluate.method"] for cell in chain.cells] == [label + method for method in methods]
    for cell in found[0].cells:
        run = parsed(found[0], cell)
        sampler = run.model.init_args.reference.init_args.sampler.init_args
        assert (sampler.eta, sampler.steps) == (0.0, steps)
        assert run.data.init_args.pool == str(found[0].folder / "pool")
        assert run.data.init_args.pool != drawn.data.init_args.pool
        assert (run.collect.draws, run.collect.keep) == (drawn.collect.draws, drawn.collect.keep)
        assert run.data.init_args.acceptance == drawn.data.init_args.acceptance
        handoff = float(cell.settings["evaluate.method"].partition("@")[2] or 0)
        assert run.model.init_args.get("handoff", 0.0) == handoff
        assert handoff in [0.0, *run.collect.keep]


def test_every_layer_is_used_by_some_sweep_or_says_over_what_it_goes():
    used = {c for file in SWEEPS for chain in plan_of(file).chains for cell in chain.cells for c in cell.config}
    shown = {str(layer) for layer in LAYERS for command in shown_commands(layer) if str(layer) in command}
    assert {str(layer) for layer in LAYERS} <= used | shown


def shown() -> dict[tuple[str, ...], Path]:
    """Every command of a head but the ``fit`` of the file alone, which is built above; without its checkpoint."""
    found: dict[tuple[str, ...], Path] = {}
    for file in RUNS + LAYERS:
        for command in shown_commands(file):
            words = command[: command.index("--ckpt_path")] if "--ckpt_path" in command else command
            if words != ["fit", "--config", str(file)]:
                found.setdefault(tuple(words), file)
    return found


OTHERS = [pytest.param(list(c), id=f"{file} {c[0]}") for c, file in shown().items() if len(c) == 3]
LAYERED = [pytest.param(list(c), id=f"{file} {c[0]}") for c, file in shown().items() if len(c) > 3]


@pytest.mark.parametrize("command", OTHERS)
def test_another_command_in_the_head_of_a_file_is_understood(parser, command):
    """Of the file alone, which is built above."""
    assert Path(command[2]) in RUNS
    assert parser.parse_args(command)[command[0]].model.class_path


@pytest.mark.parametrize("command", LAYERED)
def test_the_command_in_the_head_of_a_file_is_built(command, built_only):
    cli = run_lightning(command)
    assert cli.model.views is None
    assert cli.datamodule.trainer is None


# The others run in the tests of their domain, and those that train a flow or its correctors one after the other, below.
FLOWS = [Path("experiments/digits") / f"{name}.yaml" for name in ("flow", "noise_corrector", "gaussian_corrector")]
DIGITS = [file for file in RUNS if file.parts[1] == "digits" and file not in FLOWS]


@pytest.mark.slow
@pytest.mark.parametrize("file", DIGITS, ids=str)
def test_an_experiment_runs(file, tmp_path, monkeypatch):
    """On a copy of the shipped weights: pre-training writes where its reference reads."""
    weights = tmp_path / "reference.safetensors"
    shutil.copyfile(DATA / "digits" / "reference.safetensors", weights)
    before = (DATA / "digits" / "reference.safetensors").read_bytes()
    text = TEXTS[file]
    line = [
        f"--config={file}",
        "--config=tests/overrides/tiny.yaml",
        f"--model.init_args.reference.init_args.weights={weights}",
        f"--trainer.logger.init_args.save_dir={tmp_path}",
        "--trainer.logger.init_args.name=run",
        "--data.init_args.validation.init_args.limit=2",
    ]
    if "collect" in text:
        line += [
            f"--data.init_args.pool={tmp_path / 'pool'}",
            "--data.init_args.conditions.init_args.limit=3",
            "--data.init_args.test.init_args.limit=2",
            "--collect.draws=10",
        ]
    fitted = run_lightning(["fit", *line])
    assert fitted.trainer.global_step == 2
    records = [json.loads(row) for row in (tmp_path / "run/evaluation.jsonl").read_text().splitlines()]
    assert {row["method"] for row in records} == {fitted.model.method, *(["base"] if "collect" in text else [])}
    assert all(figure["n"] > 0 for row in records for figure in row["metrics"].values())
    if "collect" in text:
        drawn = min(text["collect"].get("rounds", 1), 2)  # a second round follows the only epoch, where there are any
        assert TrajectoryPool.open(tmp_path / "pool").statistics()["trajectories"] == 30 * drawn
    if len(file.parts) == 3:  # rivals and controls are evaluated and drawn from by the same means
        run_lightning(["test", *line, f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"])
        run_lightning(["predict", *line, f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"])
    assert (DATA / "digits" / "reference.safetensors").read_bytes() == before


@pytest.mark.slow
def test_a_flow_is_trained_and_corrected(tmp_path):
    """Each file as it is, two steps long: the correctors read the flow and share the pool."""
    weights = tmp_path / "flow.safetensors"
    line = [
        "--config=tests/overrides/tiny.yaml",
        f"--trainer.logger.init_args.save_dir={tmp_path}",
    ]
    flow, *correctors = FLOWS
    fitted = run_lightning(
        ["fit", f"--config={flow}", *line, f"--model.init_args.reference.init_args.weights={weights}"]
    )
    assert fitted.trainer.global_step == 2
    for file in correctors:
        own = [
            *line,
            f"--model.init_args.flow.init_args.weights={weights}",
            f"--data.init_args.pool={tmp_path / 'pool'}",
            "--data.init_args.count=24",
        ]
        run_lightning(["fit", f"--config={file}", *own, "--trainer.limit_val_batches=0"])  # what a test shows too
        folder = tmp_path / file.stem
        checkpoint = f"--ckpt_path={folder}/checkpoints/last.ckpt"
        tested = run_lightning(["test", f"--config={file}", *own, checkpoint])
        last = json.loads((folder / "evaluation.jsonl").read_text().splitlines()[-1])
        assert (last["stage"], last["method"]) == ("test", tested.model.method)
        named = {metric["class_path"].rsplit(".", 1)[-1] for metric in TEXTS[file]["evaluate"]["metrics"]}
        assert named <= last["metrics"].keys()
        assert last["metrics"]["FrechetDistance"]["mean"] > 0
        assert last["metrics"]["known_held_out"]["mean"] > 0.9
        assert last["metrics"]["round_trip_data_median"]["mean"] < 1e-4
        run_lightning(["predict", f"--config={file}", *own, checkpoint])
        assert len(list((folder / "samples").glob("*.png"))) == 64
    assert TrajectoryPool.open(tmp_path / "pool").statistics()["trajectories"] == 24
