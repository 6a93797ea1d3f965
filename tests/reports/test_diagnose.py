import json

import pytest

from graft_lightning.cli.main import main
from graft_lightning.rejection.pool import TrajectoryPool
from tests.runs import arguments, launch, tiny_config

FEW = ("--states=6", "--continuations=3")


def test_a_diagnosis_of_a_tiny_pool(tmp_path, capsys):
    launch("diagnose", tmp_path, {}, *FEW)
    found = json.loads((tmp_path / "run/diagnose.json").read_text())
    assert [level["fraction"] for level in found["levels"]] == [0.25, 0.5]
    for level in found["levels"]:
        assert level["open_variance"]["n"] == 6
        assert level["open_variance"]["mean"] >= 0
        assert level["attainable"]["n"] == 6
        assert level["score_distance"]["mean"] > 0
    opened = TrajectoryPool.open(tmp_path / "pool").round(0)
    best = opened.rewards("Ink").sort(descending=True).values[:, :2]
    assert found["reward"]["accepted"] == pytest.approx(float(best.mean()))
    assert not (tmp_path / "run/collected.json").exists()  # what a run was trained on is for `fit` to say
    assert 0 <= found["recommended"]["low"] <= found["recommended"]["N_I/N"] <= found["recommended"]["high"] <= 1
    assert (tmp_path / "run/diagnose.png").stat().st_size > 1000
    assert "Recommended hand-off" in capsys.readouterr().out


def test_a_filled_pool_is_used_and_real_data_may_be_given(tmp_path):
    launch("fit", tmp_path, {"trainer.max_steps": 1})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "pool").rglob("*.safetensors")}
    launch("diagnose", tmp_path, {}, *FEW, "--real=CaptionedDigits")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pool").rglob("*.safetensors")} == before != {}
    found = json.loads((tmp_path / "run/diagnose.json").read_text())
    assert all(level["from_real_data"]["n"] == 6 for level in found["levels"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"collect.reward": None}, ["collect.reward"]),
        ({"collect.keep": [], "model.handoff": 0.0}, ["collect.keep"]),
        (
            {"model.reference.sampler": {"class_path": "graft_lightning.processes.samplers.Euler",
                                         "init_args": {"steps": 8}}},
            ["Euler", "deterministic"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_diagnosed_is_refused(tmp_path, capfd, changes, words):
    with pytest.raises(SystemExit) as exit_:
        main(arguments("diagnose", tmp_path, tiny_config(tmp_path, changes), *FEW))
    printed = capfd.readouterr().err
    assert exit_.value.code == 2
    assert all(word in printed for word in words)
    assert "Traceback" not in printed
