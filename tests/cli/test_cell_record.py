"""Records of a sweep's cells: tables outlive runs, what changed is told, what was tampered with is refused."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from graft_lightning.cli.cell_record import DIGITS, RecordError, changes, read_record, restore, write_record
from graft_lightning.cli.chain import is_done, to_run
from graft_lightning.cli.main import main
from graft_lightning.cli.sweep_file import read_plan
from graft_lightning.reports.comparison import compare, read_runs
from graft_lightning.reports.round_kl import round_kl_section
from graft_lightning.runs import ALARMS, EVALUATIONS, ROUNDS, append_record
from graft_lightning.statistics import over_conditions

IDENTITY = {
    "seed": 1,
    "settings": {"model.handoff": 0.25, "data.pool": None},
    "layers": [{"trainer": {"max_steps": 3}}],
}


def evaluation(method: str, seed: int, conditions: int = 5, draws: int = 4) -> dict:
    scores = np.random.default_rng(seed).random((conditions, draws)).round(6).tolist()
    metrics = {
        "Ink": over_conditions(scores),
        "Diversity": {"mean": 1.25 + seed, "low": float("nan"), "high": float("nan")},
    }
    record = {"stage": "test", "method": method, "step": 10, "seed": seed, "metrics": metrics, "averages": {}}
    return {**record, "scores": {"Ink": scores}}


def leave_run(folder: Path, seed: int, method: str = "graft") -> None:
    """What a run leaves behind, as far as a report reads it."""
    append_record(folder, EVALUATIONS, evaluation(method, seed))
    alarm = {"stage": "test", "method": method, "step": 10, "metrics": {}, "alarms": {"blank": "3 % blank"}}
    append_record(folder, ALARMS, alarm)
    (folder / "collected.json").write_text(json.dumps({"round": 0, "rewards": {"Ink": {"all": 0.1, "accepted": 0.7}}}))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/large.json").write_text("{}")


def test_what_a_report_reads_comes_back(tmp_path):
    """Scores to their rounding, and every mean and interval computed from them."""
    for seed in (1, 2, 3):
        for method in ("base", "graft"):
            run = tmp_path / "runs" / f"seed-{seed}" / method
            leave_run(run, seed + (method == "base"), method)
            file = tmp_path / "records" / f"seed-{seed}" / f"{method}.json"
            write_record(file, IDENTITY, run, {"seconds": 3.0})
            restore(read_record(file), tmp_path / "back" / f"seed-{seed}" / method)
    first, second = (compare(read_runs([tmp_path / name]), best_of_n=(1, 2)) for name in ("runs", "back"))
    assert first.keys() == second.keys() == {"base", "graft", "best_of_1", "best_of_2"}
    for method, row in first.items():
        assert row.keys() == second[method].keys()
        for metric, found in row.items():
            assert second[method][metric] == pytest.approx(found, rel=10 ** (1 - DIGITS), nan_ok=True)
    names = [sorted(p.name for p in (tmp_path / "back/seed-1/graft").iterdir())]
    assert names == [["alarms.jsonl", "collected.json", "evaluation.jsonl"]]
    assert json.loads((tmp_path / "back/seed-1/graft/collected.json").read_text())["rewards"]["Ink"]["accepted"] == 0.7


def test_the_kl_of_rounds_comes_back(tmp_path):
    run, file = tmp_path / "runs/seed-1/nft", tmp_path / "records/seed-1/nft.json"
    leave_run(run, 1, "nft")
    for number, (asked, taken) in enumerate(((0.9, 1.2), (0.8, 2.5))):
        spent = {"kl_asked": asked, "kl_taken_up": taken, "samples": 64}
        append_record(run, ROUNDS, {"stage": "fit", "method": "nft", "step": number, "round": number, "spent": spent})
    write_record(file, IDENTITY, run, {"seconds": 3.0})
    restore(read_record(file), tmp_path / "back/seed-1/nft")
    told, record = round_kl_section([tmp_path / "back"])
    assert told == round_kl_section([tmp_path / "runs"])[0]
    assert record["round_kl"][-1]["kl_taken_up"]["mean"] == pytest.approx(3.7)


def test_scores_that_failed_stay_so_and_means_are_not_kept(tmp_path):
    record = evaluation("graft", 0, 2, 2)
    record["scores"]["Ink"] = [[0.5, float("nan")], [0.25, 0.75]]
    append_record(tmp_path / "sweep/a/b", EVALUATIONS, record)
    file = tmp_path / "a/b.json"
    write_record(file, IDENTITY, tmp_path / "sweep/a/b", {})
    kept = json.loads(file.read_text())["evaluations"][0]
    assert kept["scores"]["Ink"] == [[0.5, None], [0.25, 0.75]]
    assert set(kept["metrics"]) == {"Diversity"}
    assert "NaN" not in file.read_text()
    restore(read_record(file), tmp_path / "back")
    (run,) = read_runs([tmp_path / "back"])
    assert run.values == pytest.approx({"Ink": 0.5, "Diversity": 1.25})
    np.testing.assert_array_equal(run.scores["Ink"], [[0.5, np.nan], [0.25, 0.75]])


def test_what_differs_is_told_key_by_key(tmp_path):
    leave_run(tmp_path / "sweep/a/b", 0)
    write_record(tmp_path / "a/b.json", IDENTITY, tmp_path / "sweep/a/b", {})
    record = read_record(tmp_path / "a/b.json")
    assert changes(record, IDENTITY) == []
    assert changes(record, {**IDENTITY, "seed": 2}) == ["seed: 1 then, 2 now"]
    other = {**IDENTITY, "settings": {"model.handoff": 0.5, "data.pool": None}}
    assert changes(record, other) == ["settings.model.handoff: 0.25 then, 0.5 now"]
    other = {**IDENTITY, "layers": [{"trainer": {"max_steps": 3, "devices": 2}}]}
    assert changes(record, other) == ["layers[0].trainer.devices: absent then, 2 now"]


def test_files_that_the_run_read_count_where_they_are_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/weights.bin").write_bytes(b"one")
    Path("runs/chain/own.bin").parent.mkdir(parents=True)
    Path("runs/chain/own.bin").touch()
    leave_run(Path("runs/chain/cell"), 0)
    config = {"model": {"init_args": {"weights": "data/weights.bin", "own": "runs/chain/own.bin", "name": "data"}}}
    Path("runs/chain/cell/config.yaml").write_text(yaml.safe_dump(config))
    write_record(Path("records/chain/cell.json"), IDENTITY, Path("runs/chain/cell"), {})
    record = read_record(Path("records/chain/cell.json"))
    assert list(record["files"]) == ["data/weights.bin"]
    assert changes(record, IDENTITY) == []
    Path("data/weights.bin").write_bytes(b"two")
    assert [line.partition(":")[0] for line in changes(record, IDENTITY)] == ["data/weights.bin"]
    Path("data/weights.bin").unlink()
    assert changes(record, IDENTITY) == []


def test_weights_that_ship_with_the_domain_count(tmp_path, monkeypatch):
    """No setting names them: their classes find them."""
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "molecules"):
        Path("data", name).mkdir(parents=True)
        Path("data", name, "reference.safetensors").write_bytes(b"one")
    leave_run(Path("runs/chain/cell"), 0)
    config = {"model": {"class_path": "graft_lightning.domains.digits.DigitReference"}}
    Path("runs/chain/cell/config.yaml").write_text(yaml.safe_dump(config))
    write_record(Path("records/chain/cell.json"), IDENTITY, Path("runs/chain/cell"), {})
    record = read_record(Path("records/chain/cell.json"))
    assert list(record["files"]) == ["data/digits/reference.safetensors"]
    Path("data/molecules/reference.safetensors").write_bytes(b"two")
    assert changes(record, IDENTITY) == []
    Path("data/digits/reference.safetensors").write_bytes(b"two")
    assert len(changes(record, IDENTITY)) == 1


def cut(text):
    return text[: len(text) // 2]


def improved(text):
    record = json.loads(text)
    record["evaluations"][0]["scores"]["Ink"][0][0] = 0.99
    return json.dumps(record)


DAMAGE = {
    "is damaged": cut,
    "was changed after it was written": improved,
    "is no record of a sweep's cell": lambda text: '{"identity": "a1"}',
    "is no record": lambda text: text.replace("cell record 1", "cell record 0"),
    "is the record of a/b": lambda text: text,
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_or_foreign_record_is_refused_by_name(tmp_path, message):
    leave_run(tmp_path / "sweep/a/b", 0)
    write_record(tmp_path / "a/b.json", IDENTITY, tmp_path / "sweep/a/b", {})
    other = tmp_path / "a" / ("c.json" if "a/b" in message else "b.json")
    other.write_text(DAMAGE[message]((tmp_path / "a/b.json").read_text()))
    with pytest.raises(RecordError, match=message) as refused:
        read_record(other)
    assert str(other) in str(refused.value)
    assert "delete it and the cell is run again" in str(refused.value)
    assert read_record(tmp_path / "a/absent.json") is None


# ---- a sweep that has records

WEIGHTS = "model.init_args.weights"
SWEEP = {
    "folder": "runs",
    "settings": {"data.pool": "{chain}/pool"},
    "cells": {
        "pretrain": {"commands": ["fit"], "config": ["layer.yaml"]},
        "graft": {"commands": ["fit", "test"], "config": ["layer.yaml"]},
        "other": {"commands": ["fit", "test"], "config": ["layer.yaml"]},
    },
    "chains": [
        {"name": "b", "seed": 1, "cells": ["other"], "settings": {WEIGHTS: "{root}/a/own.bin"}},
        {"name": "a", "seed": 0, "cells": ["pretrain", "graft", "other"], "settings": {WEIGHTS: "{chain}/own.bin"}},
    ],
    "report": {"metrics": {"Ink": "ink"}, "sheets": {"Samples": "a/graft/test.png"}},
}

STAND_IN = """#!{python}
import json, sys
from pathlib import Path
sys.path.insert(0, {root!r})
folder = Path(sys.argv[sys.argv.index("cell") + 1])
recipe = json.loads((folder / "cell.json").read_text())
scores = [[0.1 * recipe["chain"]["seed"] + 0.2, 0.4], [0.5, 0.6]]
record = {{"stage": "test", "method": folder.name, "step": 1, "seed": recipe["chain"]["seed"], "averages": {{}}}}
record |= {{"metrics": {{"Ink": {{"mean": 0.0, "low": 0.0, "high": 0.0}}}}, "scores": {{"Ink": scores}}}}
(folder / "evaluation.jsonl").write_text(json.dumps(record) + "\\n")
(folder / "done.json").write_text(json.dumps({{"identity": recipe["digest"], "seconds": 1.5}}))
with open("calls", "a") as calls:
    calls.write(f"{{folder.parent.name}}/{{folder.name}} ")
"""


@pytest.fixture
def swept(tmp_path, monkeypatch):
    """Runs the sweep, whose cells leave scores at once; returns which were run."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "python"
    script.write_text(STAND_IN.format(python=sys.executable, root=str(Path(__file__).parents[2])))
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr("graft_lightning.cli.sweeping.PAUSE", 0.02)
    Path("layer.yaml").write_text("model: {}\n")
    Path("sweep.yaml").write_text(yaml.safe_dump(SWEEP))

    def sweep(*more: str) -> list[str]:
        Path("calls").write_text("")
        main(["sweep", "sweep.yaml", *more])
        return Path("calls").read_text().split()

    return sweep


def edit(change) -> None:
    text = yaml.safe_load(Path("sweep.yaml").read_text())
    change(text)
    Path("sweep.yaml").write_text(yaml.safe_dump(text))


ALL = ["a/pretrain", "a/graft", "a/other", "b/other"]


def test_a_table_survives_without_its_runs(swept, capsys):
    assert swept("--jobs=1") == ALL  # the chain that needs a file comes after the one that writes it
    kept = {str(path.relative_to("records/sweep")) for path in Path("records/sweep").rglob("*.json")}
    assert kept == {*(f"{name}.json" for name in ALL), "report.json"}
    before = json.loads(Path("records/sweep/report.json").read_text())
    assert before["other"]["Ink"]["mean"] == pytest.approx((0.425 + 0.45) / 2)  # of the scores, not the runs' own 0
    assert before == json.loads(Path("runs/report.json").read_text())
    shutil.rmtree("runs")
    assert swept() == []
    assert "4 of 4 cells are done already" in capsys.readouterr().out
    assert json.loads(Path("records/sweep/report.json").read_text()) == before
    assert "| other |" in Path("runs/report.md").read_text()


def test_a_changed_setting_is_named_and_its_cell_done_again_with_what_it_needs(swept, capsys):
    swept()
    shutil.rmtree("runs")
    edit(lambda text: text["cells"]["graft"].update(settings={"model.handoff": 0.5}))
    assert swept() == ["a/pretrain", "a/graft"]  # its weights are gone; those of `other` are not asked for
    assert "a/graft is run again" in (out := capsys.readouterr().out)
    assert "settings.model.handoff: absent then, 0.5 now" in out
    assert swept() == []


def test_what_depends_on_a_changed_cell_is_done_again(swept):
    swept()
    edit(lambda text: text["cells"]["pretrain"].update(settings={"trainer.max_steps": 5}))
    assert sorted(swept()) == sorted(ALL)


def test_comments_of_a_layer_are_no_change(swept):
    swept()
    Path("layer.yaml").write_text("# said otherwise\nmodel: {}\n")
    assert swept() == []
    Path("layer.yaml").write_text("model: {other: 1}\n")
    assert sorted(swept()) == sorted(ALL)


def test_a_pool_is_refilled_by_who_needs_it(swept):
    """The first cell that names a pool is not needed by the others."""
    edit(lambda text: text.update(chains=[{"name": "a", "seed": 0, "cells": ["graft", "other"]}]))
    swept()
    shutil.rmtree("runs")
    edit(lambda text: text["cells"]["other"].update(settings={"model.handoff": 0.5}))
    assert swept() == ["a/other"]


def test_a_damaged_record_stops_the_sweep_also_where_the_run_is_here(swept, capsys):
    swept()
    file = Path("records/sweep/a/graft.json")
    file.write_text(file.read_text().replace("0.4", "0.9"))
    for _ in range(2):
        with pytest.raises(SystemExit, match="2"):
            swept()
        assert "records/sweep/a/graft.json was changed after it was written" in capsys.readouterr().err
        shutil.rmtree("runs", ignore_errors=True)
    file.unlink()
    assert swept() == ["a/pretrain", "a/graft"]


def test_without_records_nothing_is_kept_or_believed(swept):
    assert sorted(swept("--no-records")) == sorted(ALL)
    assert not Path("records").exists()
    swept()
    assert Path("records").exists()
    shutil.rmtree("runs")
    assert sorted(swept("--no-records")) == sorted(ALL)


def test_records_may_lie_elsewhere(swept):
    swept("--records=kept")
    assert Path("kept/a/graft.json").is_file()
    assert not Path("records").exists()
    assert all(
        is_done(chain, cell)
        for chain in read_plan(Path("sweep.yaml"), None, Path("kept")).chains
        for cell in chain.cells
    )


def test_chains_that_need_one_another_are_refused(swept, capsys):
    edit(lambda text: text["chains"][1]["settings"].update({"x": "{root}/b/other/x.bin"}))
    with pytest.raises(SystemExit, match="2"):
        swept()
    assert "need files of one another" in capsys.readouterr().err


def test_the_checkpoint_of_a_cell_is_needed_by_who_names_its_folder(swept):
    edit(lambda text: text["chains"][0].update(settings={"ckpt_path": "{root}/a/graft/checkpoints/last.ckpt"}))
    plan = read_plan(Path("sweep.yaml"))
    needs = {chain.name: {cell.name: list(cell.needs) for cell in chain.cells} for chain in plan.chains}
    assert needs == {
        "a": {"pretrain": [], "graft": ["a/pretrain"], "other": ["a/pretrain"]},
        "b": {"other": ["a/graft"]},
    }
    assert [cell.name for cell in to_run(plan.chains)["a"]] == ["pretrain", "graft", "other"]
