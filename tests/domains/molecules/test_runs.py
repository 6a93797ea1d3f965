"""Every run of molecules, two steps long, through the command line."""

import json
from pathlib import Path

import pytest

from graft_lightning.cli.lightning import run_lightning
from graft_lightning.domains.molecules import MoleculeReference
from graft_lightning.rejection.pool import TrajectoryPool

ROOT = Path(__file__).parents[3]
SMALL = {"layers": 1, "width": 16, "pair_width": 4, "radial": 4}


def line(tmp_path: Path, file: str, *more: str) -> list[str]:
    """A tiny run of an experiment with random weights, and the embedded set of at most four heavy atoms."""
    weights = tmp_path / "reference.safetensors"
    if not weights.exists():
        reference = MoleculeReference(network=SMALL)
        reference.save(reference.build(pretrained=False), weights, {})
    known = {"class_path": "EmbeddedMolecules", "init_args": {"max_heavy": 4, "cache": str(tmp_path / "cache")}}
    metrics = [
        {"class_path": "graft_lightning.domains.molecules.metrics.Validity"},
        {"class_path": "graft_lightning.domains.molecules.metrics.Novelty", "init_args": {"known": known}},
        {"class_path": "graft_lightning.domains.molecules.metrics.Strain"},
    ]
    return [
        f"--config=experiments/molecules/{file}.yaml",
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
    examples = f"--data.init_args.examples.init_args.cache={tmp_path / 'cache'}"
    small = line(tmp_path, file, examples, "--data.init_args.examples.init_args.max_heavy=4")
    fitted = run_lightning(["fit", *small])
    assert fitted.trainer.global_step == 2
    records = [json.loads(row) for row in (tmp_path / "run/evaluation.jsonl").read_text().splitlines()]
    assert {row["method"] for row in records} == {fitted.model.method}
    assert 0 <= records[-1]["metrics"]["Novelty"]["mean"] <= 1 or records[-1]["metrics"]["Validity"]["mean"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("file", ["graft", "pgraft"])
def test_fine_tuning_runs_and_writes_molecules(file, tmp_path, monkeypatch, drawn):
    monkeypatch.chdir(ROOT)
    small = line(
        tmp_path,
        file,
        f"--data.init_args.pool={tmp_path / 'pool'}",
        "--data.init_args.conditions.init_args.groups=3",
        '--data.init_args.acceptance={"class_path": "TopK", "init_args": {"k": 2}}',
        '--collect.reward={"class_path": "graft_lightning.domains.molecules.rewards.StableAtoms"}',
        "--collect.keep=[0.3, 0.5]",
        "--collect.draws=6",
        *(["--model.handoff=0.3"] if file == "pgraft" else []),
    )
    fitted = run_lightning(["fit", *small])
    assert fitted.trainer.global_step == 2
    statistics = TrajectoryPool.open(tmp_path / "pool").statistics()
    assert statistics["trajectories"] == 18
    assert set(TrajectoryPool.open(tmp_path / "pool").reward_fingerprints()) == {"StableAtoms", "Stable", "LowStrain"}
    checkpoint = f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    run_lightning(["test", *small, checkpoint])
    run_lightning(["predict", *small, checkpoint])
    assert (
        len(list((tmp_path / "run/samples").glob("*.sdf"))) == len(list((tmp_path / "run/samples").glob("*.xyz"))) == 3
    )
    run_lightning(["plan", *small, "--measure=false"])
    assert (tmp_path / "run/test.png").stat().st_size > 500


INTERLEAVED = {"class_path": "graft_lightning.processes.interleaved.Interleaved"}
SAMPLERS = {
    "interleaved": {**INTERLEAVED, "init_args": {"steps": 10}},
    "eta 0": {**INTERLEAVED, "init_args": {"steps": 10, "eta": 0.0}},
    "DDIM": {"class_path": "graft_lightning.processes.samplers.DDIM", "init_args": {"steps": 10, "eta": 0.0}},
}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_mixed_state_is_diagnosed(tmp_path, monkeypatch, capsys, sampler):
    """Open variance, both figures of a hand-off, and the score of the positions, which alone have one.

    At eta 0 the positions are not drawn, but the types are, and decide: it is no deterministic sampler.
    """
    monkeypatch.chdir(ROOT)
    small = line(
        tmp_path,
        "pgraft",
        f"--data.init_args.pool={tmp_path / 'pool'}",
        "--data.init_args.conditions.init_args.groups=3",
        '--data.init_args.acceptance={"class_path": "TopK", "init_args": {"k": 2}}',
        '--collect.reward={"class_path": "graft_lightning.domains.molecules.rewards.StableAtoms"}',
        "--collect.keep=[0.3, 0.5]",
        "--collect.draws=6",
        "--model.handoff=0.3",
        f"--model.init_args.reference.init_args.sampler={json.dumps(sampler)}",
    )
    real = {"class_path": "EmbeddedMolecules", "init_args": {"max_heavy": 4, "cache": str(tmp_path / "cache")}}
    run_lightning(["diagnose", *small, "--states=6", "--continuations=3", f"--real={json.dumps(real)}"])
    found = json.loads((tmp_path / "run/diagnose.json").read_text())
    assert [level["fraction"] for level in found["levels"]] == [0.3, 0.5]
    for level in found["levels"]:
        for name in ("open_variance", "score_distance", "attainable", "from_real_data"):
            assert level[name]["n"] == 6
            assert level[name]["mean"] >= 0
    assert found["deterministic"] is False
    assert found["recommended"]["by"] == "open variance"
    printed = capsys.readouterr().out
    assert "finishes x_s with fresh noise" in printed
    assert "every sampler draws classes" in printed
    assert "open_variance" in printed
    assert "attainable" in printed
    assert "of positions alone: classes have no score" in printed
    assert "Recommended hand-off" in printed
    assert (tmp_path / "run/diagnose.png").stat().st_size > 1000
