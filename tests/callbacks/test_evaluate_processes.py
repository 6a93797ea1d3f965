"""An evaluation by two processes, one of which has nothing to draw."""

import json

import pytest

from tests.runs import launch

DISTANCES = "graft_lightning.domains.base.distances"
ONE_GROUP = {
    "data.validation": {"class_path": "Texts", "init_args": {"values": ["two eights"]}},
    "data.eval_draws": 6,
    "data.eval_batch_size": 256,
    "trainer.max_steps": 5,
    "model.optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}},
    "evaluate.metrics": [
        {"class_path": "graft_lightning.domains.base.Diversity"},
        *(
            {
                "class_path": f"{DISTANCES}.{name}",
                "init_args": {
                    "real": {"class_path": "graft_lightning.domains.digits.RealDigits"},
                    "features": {"class_path": "graft_lightning.domains.digits.DigitFeatures"},
                    "count": 101,
                },
            }
            for name in ("FrechetDistance", "KernelDistance", "Precision", "Recall")
        ),
    ],
}


def test_a_process_without_samples_joins_in(tmp_path):
    for name, more in (("one", {}), ("two", {"trainer.devices": 2, "trainer.strategy": "ddp_fork"})):
        launch("fit", tmp_path / name, {**ONE_GROUP, **more, "data.batch_size": 4 // (2 if more else 1)})
    one, two = (figures(tmp_path / name / "run/evaluation.jsonl") for name in ("one", "two"))
    assert len(one) == len(two) == 2 * 6
    assert two == pytest.approx(one, rel=1e-3)


def figures(file):
    records = map(json.loads, file.read_text().splitlines())
    return {(r["method"], name): figure["mean"] for r in records for name, figure in r["metrics"].items()}
