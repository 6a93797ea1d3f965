"""Every run of layouts, two steps long, through the command line."""

import json
from pathlib import Path

import pytest

from graft_lightning.cli.lightning import run_lightning
from graft_lightning.domains.layouts import LayoutReference
from graft_lightning.rejection.pool import TrajectoryPool

ROOT = Path(__file__).parents[3]
SMALL = {"layers": 1, "width": 16, "heads": 2, "frequencies": 3}


def pages(tmp_path: Path, part: str) -> dict:
    return {
        "class_path": "EmbeddedLayouts",
        "init_args": {"count": 60, "cache": str(tmp_path / "cache"), "part": part},
    }


def line(tmp_path: Path, file: str, *more: str) -> list[str]:
    """A tiny run of an experiment with random weights, and 60 pages."""
    weights = tmp_path / "reference.safetensors"
    if not weights.exists():
        reference = LayoutReference(network=SMALL)
        reference.save(reference.build(pretrained=False), weights, {})
    metrics = [
        {"class_path": "graft_lightning.domains.layouts.metrics.Alignment"},
        {
            "class_path": "graft_lightning.domains.layouts.metrics.LabelCountDistance",
            "init_args": {"real": pages(tmp_path, "all")},
        },
    ]
    return [
        f"--config=experiments/layouts/{file}.yaml",
        "--config=tests/overrides/tiny.yaml",
        f"--model.init_args.reference.init_args.weights={weights}",
        f"--model.init_args.reference.init_args.network={json.dumps(SMALL)}",
        "--model.init_args.reference.init_args.sampler=Interleaved",
        "--model.init_args.reference.init_args.sampler.steps=10",
        "--data.init_args.validation.init_args.groups=3",
        f"--evaluate.metrics={json.dumps(metrics)}",
        f"--trainer.logger.init_args.save_dir={tmp_path}",
        "--trainer.logger.init_args.name=run",
        *more,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["pretrain", "controls/further"])
def test_pretraining_runs(file, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    examples = {"class_path": "WithTasks", "init_args": {"examples": pages(tmp_path, "train")}}
    fitted = run_lightning(["fit", *line(tmp_path, file, f"--data.init_args.examples={json.dumps(examples)}")])
    assert fitted.trainer.global_step == 2
    records = [json.loads(row) for row in (tmp_path / "run/evaluation.jsonl").read_text().splitlines()]
    assert {row["method"] for row in records} == {fitted.model.method}
    assert 0 <= records[-1]["metrics"]["Tidy"]["mean"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("file", ["graft", "pgraft"])
def test_fine_tuning_runs_and_writes_layouts(file, tmp_path, monkeypatch, capsys, drawn):
    monkeypatch.chdir(ROOT)
    small = line(
        tmp_path,
        file,
        f"--data.init_args.pool={tmp_path / 'pool'}",
        "--data.init_args.conditions.init_args.groups=3",
        "--data.init_args.test.init_args.groups=3",
        "--data.init_args.acceptance.init_args.k=2",
        "--collect.keep=[0.3, 0.5]",
        "--collect.draws=6",
        "--trainer.check_val_every_n_epoch=1",
        *(["--model.handoff=0.3"] if file == "pgraft" else []),
    )
    fitted = run_lightning(["fit", *small])
    assert fitted.trainer.global_step == 2
    pool = TrajectoryPool.open(tmp_path / "pool")
    assert pool.statistics()["trajectories"] == 18
    assert set(pool.reward_fingerprints()) == {"Tidy", "GoodAlignment", "LittleOverlap"}
    assert (tmp_path / "run/base_and_now.png").stat().st_size > 500
    checkpoint = f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    task = {
        "class_path": "TaskConditions",
        "init_args": {"examples": pages(tmp_path, "all"), "task": "label", "limit": 4},
    }
    tested = run_lightning(["test", *small, f"--data.init_args.test={json.dumps(task)}", checkpoint])
    assert len(tested.datamodule.test.texts()) == 4
    for _ in range(2):  # the second time the same names are written again
        run_lightning(["predict", *small, checkpoint])
    assert len(list((tmp_path / "run/samples").glob("*.svg"))) == 3
    assert len((tmp_path / "run/samples/layouts.jsonl").read_text().splitlines()) == 3
    run_lightning(["plan", *small, "--measure=false"])
    assert (tmp_path / "run/test.png").stat().st_size > 500
