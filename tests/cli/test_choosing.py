"""Settings that are chosen: as many runs try them as there are values, and the best validation reward wins."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from graft_lightning.cli import sweeping
from graft_lightning.cli.cell import run_cell
from graft_lightning.cli.cell_record import write_record
from graft_lightning.cli.chain import arguments, identity, read_recipe, to_run, write_recipe
from graft_lightning.cli.choosing import settled, validated
from graft_lightning.cli.main import main
from graft_lightning.cli.sweep_file import read_plan
from graft_lightning.identity import digest_of
from graft_lightning.runs import CHOSEN, CONFIG, append_record, done, mark_done
from graft_lightning.types import SettingsError
from tests.runs import changed, tiny_config

ROOT = Path(__file__).parents[2]
LR = "model.init_args.optimizer.init_args.lr"
SWEEP = {
    "folder": "runs",
    "settings": {"data.pool": "{chain}/pool"},
    "choosing": {"seed": 7, "settings": {"data.eval_draws": 2}},
    "cells": {
        "base": {"commands": ["test"], "config": ["layer.yaml"]},
        "graft": {"commands": ["fit", "test"], "config": ["layer.yaml"], "choose": {LR: [0.1, 0.2], "model.k": [1, 2]}},
        "unused": {"commands": ["fit"], "config": ["layer.yaml"], "choose": {LR: [0.1]}},
    },
    "chains": [{"name": f"seed-{n}", "seed": n, "cells": ["base", "graft"], "settings": {"x": n}} for n in (0, 1)],
}
TRIED = [f"graft@lr={lr},k={k}" for lr in (0.1, 0.2) for k in (1, 2)]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Reads the sweep with changes."""
    monkeypatch.chdir(tmp_path)
    Path("layer.yaml").write_text("model: {}\n")

    def read(**changes):
        Path("sweep.yaml").write_text(yaml.safe_dump(SWEEP | changes))
        return read_plan(Path("sweep.yaml"))

    return read


def ended(chain, name, *rewards, record=False):
    """A run of a chain, as it ends: validated with these scores, of a base before it."""
    folder = chain.folder / name
    folder.mkdir(parents=True)
    for method, rows in (("base", [[9.0]]), ("graft", [[5.0]]), ("graft", [list(rewards)])):
        own = {"Ink": rows, "Other": [[0.0]]}
        append_record(
            folder,
            "evaluation.jsonl",
            {"stage": "validate", "method": method, "step": 1, "seed": 7, "metrics": {}, "averages": {}, "scores": own},
        )
    cell = next(cell for cell in chain.cells if cell.name == name)
    mark_done(folder, digest_of(identity(chain, cell)))
    if record:
        write_record(chain.records / chain.name / f"{name}.json", identity(chain, cell), folder, {})
        for file in folder.iterdir():
            file.unlink()


def test_every_combination_is_tried_once_for_all_seeds(plan):
    trying, *seeds = plan().chains
    assert (trying.name, trying.seed, [cell.name for cell in trying.cells]) == ("choosing", 7, TRIED)
    assert all(tuple(cell.commands) == ("fit", "validate") for cell in trying.cells)
    last = trying.cells[-1].settings
    assert (last[LR], last["model.k"], last["data.eval_draws"]) == (0.2, 2, 2)
    assert "x" not in last  # which the chains of seeds set
    for chain in seeds:
        base, graft = chain.cells
        assert (base.choose, base.needs) == ({}, {})
        assert graft.choose[f"choosing/{TRIED[1]}"] == {LR: 0.1, "model.k": 2}
        wanted = {f"choosing/{cell.name}": digest_of(identity(trying, cell)) for cell in trying.cells}
        assert graft.needs == wanted
        assert "choose" in identity(chain, graft)
        assert "choose" not in identity(chain, base)  # whose records stay as they are


def test_the_best_validation_reward_of_the_trained_model_wins(plan):
    trying, chain, _ = plan().chains
    for name, rewards in zip(TRIED, [(0.5,), (1.0, 0.4), (math.nan, 0.9), (math.nan,)], strict=True):
        ended(trying, name, *rewards)
    cell, choice = settled(chain, chain.cells[1])
    assert cell.settings == {**chain.cells[1].settings, LR: 0.2, "model.k": 1}
    assert choice["chosen"] == {LR: 0.2, "model.k": 1}
    assert [one["reward"] for one in choice["tried"]] == [0.5, 0.7, 0.9, None]
    assert f"--{LR}=0.2" in arguments(chain, cell, chain.folder / "graft", "fit")
    assert settled(chain, chain.cells[0]) == (chain.cells[0], {})


def test_a_record_says_enough_and_a_run_that_has_failed_says_nothing(plan):
    trying, chain, _ = plan().chains
    ended(trying, TRIED[0], 0.5, record=True)
    (trying.folder / TRIED[1]).mkdir()
    assert validated(chain, f"choosing/{TRIED[0]}") == 0.5
    assert math.isnan(validated(chain, f"choosing/{TRIED[1]}"))
    assert settled(chain, chain.cells[1])[1]["chosen"] == {LR: 0.1, "model.k": 1}
    waiting = to_run([trying, chain])
    assert [cell.name for cell in waiting["choosing"]] == TRIED[1:]
    assert [cell.name for cell in waiting["seed-0"]] == ["base", "graft"]


def test_where_none_was_validated_the_cell_is_refused(plan):
    chain = plan().chains[1]
    with pytest.raises(SettingsError, match=r"^seed-0/graft is to use the best of choosing/graft@lr=0\.1,k=1, .* none"):
        settled(chain, chain.cells[1])


def test_what_a_cell_chooses_from_travels_to_its_process(plan):
    chain = plan().chains[1]
    (chain.folder / "graft").mkdir(parents=True)
    write_recipe(chain, chain.cells[1])
    assert read_recipe(chain.folder / "graft")[1] == replace(chain.cells[1], commands=["fit", "test"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choosing": {"seeds": 3}}, r"choosing has unknown keys \['seeds'\]; it has \['seed', 'settings'\]"),
        ({"chains": [{"name": "choosing", "seed": 0, "cells": ["graft"]}]}, "a chain is called choosing"),
        ({"cells": {**SWEEP["cells"], "graft": {**SWEEP["cells"]["graft"], "choose": {LR: 0.1}}}}, "must be a list"),
        ({"cells": {**SWEEP["cells"], "graft": {**SWEEP["cells"]["graft"], "choose": {LR: []}}}}, "must be a list"),
    ],
)
def test_a_mistaken_choice_is_refused(plan, changes, message):
    with pytest.raises(ValueError, match=message):
        plan(**changes)


class InThisProcess:
    """A chain whose cells are run at once, where a sweep begins a process for each."""

    blocked = ""

    def __init__(self, chain, cells, ready):
        self.chain, self.cells = chain, cells

    def step(self):
        for cell in self.cells:
            folder = self.chain.folder / cell.name
            folder.mkdir(parents=True)
            write_recipe(self.chain, cell)
            run_cell([str(folder)])
        return False

    def stop(self):
        pass


@pytest.mark.slow
def test_a_sweep_chooses_and_is_done(tmp_path, monkeypatch, capfd):
    """Training that does nothing is validated as the base is; what makes images brighter wins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweeping, "RunningChain", InThisProcess)
    config = tiny_config(tmp_path, {"data.test": {"class_path": "Texts", "init_args": {"values": ["two ones"]}}})
    Path("run.yaml").write_text(yaml.safe_dump(changed(config, {"trainer.max_steps": 5, "evaluate.baseline": False})))
    lr = "model.init_args.optimizer.init_args.lr"
    cell = {"commands": ["fit", "test"], "config": ["run.yaml"], "choose": {lr: [1e-12, 0.02]}}
    cell["settings"] = {"data.init_args.pool": "{chain}/pool"}
    chains = [{"name": "seed-0", "seed": 0, "cells": ["graft"]}]
    Path("sweep.yaml").write_text(yaml.safe_dump({"folder": "runs", "cells": {"graft": cell}, "chains": chains}))
    line = ["sweep", "sweep.yaml", "--jobs=1", "--only", "seed-0"]
    main(line)
    run = tmp_path / "runs/seed-0/graft"
    assert done(run) is not None
    choice = json.loads((run / CHOSEN).read_text())
    rewards = {one[lr]: one["reward"] for one in choice["tried"]}
    assert choice["chosen"][lr] == max(rewards, key=rewards.__getitem__)
    assert rewards[1e-12] != rewards[0.02]
    used = yaml.safe_load((run / CONFIG).read_text())["model"]["init_args"]["optimizer"]["init_args"]["lr"]
    assert used == choice["chosen"][lr]
    report = json.loads((tmp_path / "runs/report.json").read_text())
    assert [key for key in report if "@" in key] == ["pgraft@0.25"]
    kept = json.loads((tmp_path / "records/sweep/seed-0/graft.json").read_text())["tables"][CHOSEN]
    assert kept["chosen"] == choice["chosen"]
    assert report["chosen"] == {"graft": kept}
    row = f"| graft | lr {used} | lr 1e-12: {rewards[1e-12]:.3f}, lr 0.02: {rewards[0.02]:.3f} |"
    assert row in (tmp_path / "runs/report.md").read_text()
    capfd.readouterr()
    main(line)
    assert "3 of 3 cells are done already" in capfd.readouterr().out


ROUNDS = {"commands": ["fit", "test"], "config": ["layer.yaml"], "choose": {LR: [0.1, 0.2]}}


@pytest.mark.parametrize("rounds", [{"collect.rounds": 3}, {}], ids=["in the settings", "in a layer"])
@pytest.mark.parametrize("key", ["data.pool", "data.init_args.pool"])
def test_runs_that_try_settings_do_not_draw_their_rounds_into_one_pool(plan, rounds, key):
    """The rounds after the first belong to a model; the second run to come would be refused, hours later."""
    if not rounds:
        Path("layer.yaml").write_text("collect: {rounds: 3}\n")
    cell = ROUNDS | {"settings": {key: "{chain}/pool", **rounds}}
    chains = [{"name": "seed-0", "seed": 0, "cells": ["raft"]}]
    with pytest.raises(ValueError, match=r"cell raft: .*lr.*\{chain\}/pool.*data.pool: \"\{cell\}/pool\""):
        plan(settings={}, cells={"raft": cell}, chains=chains)
    cell = ROUNDS | {"settings": {key: "{cell}/pool", **rounds}}
    trying, chain = plan(settings={}, cells={"raft": cell}, chains=chains).chains
    lines = [arguments(trying, run, trying.folder / run.name, "fit") for run in trying.cells]
    assert [line for found in lines for line in found if line.startswith(f"--{key}=")] == [
        f"--{key}={trying.folder}/raft@lr={lr}/pool" for lr in (0.1, 0.2)
    ]
    assert chain.cells[0].settings[key] == "{cell}/pool"


@pytest.mark.parametrize(
    ("layer", "cell"),
    [
        ("data: {init_args: {pool: runs/raft-pool}}\ncollect: {rounds: 3}\n", {}),
        ("data: {pool: runs/raft-pool}\n", {"each": {"rounds": [3]}, "settings": {"collect.rounds": "{rounds}"}}),
        ("data: {pool: runs/raft-pool}\n", {"choose": {LR: [0.1], "collect.rounds": [1, 3]}}),
    ],
    ids=["the pool of a layer", "rounds as text", "rounds that are tried"],
)
def test_nor_into_one_that_a_layer_names(plan, layer, cell):
    Path("layer.yaml").write_text(layer)
    chains = [{"name": "seed-0", "seed": 0, "cells": ["raft"]}]
    with pytest.raises(ValueError, match="runs/raft-pool is one pool for all of them"):
        plan(settings={}, cells={"raft": ROUNDS | cell}, chains=chains)


def test_runs_of_one_round_may_share_a_pool(plan):
    cell = ROUNDS | {"settings": {"data.pool": "{chain}/pool", "collect.rounds": 1}}
    chains = [{"name": "seed-0", "seed": 0, "cells": ["graft"]}]
    assert [chain.name for chain in plan(cells={"graft": cell}, chains=chains).chains] == ["choosing", "seed-0"]
