import json

import pytest
import torch

import graft_lightning.reports.diagnose as diagnosis
from graft_lightning.cli.main import main
from graft_lightning.statistics import student_quantile
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
    collected = json.loads((tmp_path / "run/collected.json").read_text())
    assert found["reward"]["accepted"] == pytest.approx(collected["rewards"]["Ink"]["accepted"])
    assert 0 <= found["recommended"]["low"] <= found["recommended"]["N_I/N"] <= found["recommended"]["high"] <= 1
    assert (tmp_path / "run/diagnose.png").stat().st_size > 1000
    assert "Recommended hand-off" in capsys.readouterr().out


def test_attainable_is_of_the_accepted_by_their_weights(tmp_path, monkeypatch):
    """The states that are finished afresh stand for the selection: of rewards 0 .. 3 the best all but fills it."""
    finished, original = [], diagnosis.continue_from

    def finish(reference, denoiser, reward, states, *rest):
        finished.append(states)
        return original(reference, denoiser, reward, states, *rest)

    monkeypatch.setattr(diagnosis, "continue_from", finish)
    rule = {"class_path": "ClassicalRejection", "init_args": {"temperature": 0.2, "ceiling": 3.0}}
    changes = {
        "collect.reward": {"class_path": "tests.runs.Groupwise"},
        "collect.batch_size": 16,
        "data.acceptance": {"class_path": "SoftAcceptance", "init_args": {"rule": rule}},
    }
    cli = launch("diagnose", tmp_path, changes, "--states=16", "--continuations=2")
    selection = cli.datamodule.selection
    opened = cli.trainer.collector.open_round(cli.model, cli.datamodule, 0)[1]
    assert len(finished) == 2
    for n, states in zip(sorted(opened.kept_levels), finished, strict=True):
        pool = opened.read(torch.arange(len(opened)), [f"states/{n}"])["states", str(n)]
        taken = [int((pool == state).flatten(1).all(1).nonzero()) for state in states]
        assert float(selection.rewards.flatten()[taken].mean()) == 3.0
        assert sorted({index // 4 for index in taken}) == [0, 1, 2, 3]
    found = json.loads((tmp_path / "run/diagnose.json").read_text())
    level = found["levels"][0]["attainable"]
    assert level["high"] - level["mean"] == pytest.approx(student_quantile(16) * level["error"])


def test_a_filled_pool_is_used_and_real_data_may_be_given(tmp_path):
    launch("fit", tmp_path, {"trainer.max_steps": 1})
    cli = launch("diagnose", tmp_path, {}, *FEW, "--real=CaptionedDigits")
    assert cli.trainer.collector.drawn == 0
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
