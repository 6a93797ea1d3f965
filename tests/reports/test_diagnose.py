import json
import math

import pytest
import torch

import graft_lightning.reports.diagnose as diagnosis
from graft_lightning.cli.main import main
from graft_lightning.domains.digits import DigitReference
from graft_lightning.rejection.decided_level import Estimate, Recommendation, continue_from, recommended
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.reward import Reward
from graft_lightning.reports.diagnose import _advice
from graft_lightning.statistics import student_quantile
from tests.runs import DRAWS, Groupwise, Ink, arguments, launch, tiny_config


class Same(Reward):
    def __call__(self, samples, conditions):
        return torch.ones(len(conditions))


class Ranked(Groupwise):
    """0 .. 3 within a condition, and said to be a sample's own: the batches of this test are whole conditions."""

    groupwise = False

    def __call__(self, samples, conditions):
        return super().__call__(samples, conditions) if len(conditions) % DRAWS == 0 else torch.zeros(len(conditions))


FEW = ("--states=6", "--continuations=3")


def test_a_diagnosis_of_a_tiny_pool(tmp_path, capsys, drawn):
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
    assert found["within_condition_variance_error"] > 0
    recommended = found["recommended"]
    assert recommended["N_I/N"] in (0.25, 0.5)
    assert 0 <= recommended["low"] <= recommended["high"] <= 1
    assert recommended["low"] < recommended["high"]
    assert (recommended["low"] == 0) == recommended["open_below"]
    assert (recommended["high"] == 1) == recommended["open_above"]
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
        "collect.reward": {"class_path": "tests.reports.test_diagnose.Ranked"},
        "collect.batch_size": 16,
        "data.acceptance": {"class_path": "SoftAcceptance", "init_args": {"rule": rule}},
    }
    cli = launch("diagnose", tmp_path, changes, "--states=16", "--continuations=2")
    selection = cli.datamodule.selection
    opened = TrajectoryPool.open(tmp_path / "pool").round(0)
    assert len(finished) == 2
    for n, states in zip(sorted(opened.kept_levels), finished, strict=True):
        pool = opened.read(torch.arange(len(opened)), [f"states/{n}"])["states", str(n)]
        taken = [int((pool == state).flatten(1).all(1).nonzero()) for state in states]
        assert float(selection.rewards.flatten()[taken].mean()) == 3.0
        assert sorted({index // 4 for index in taken}) == [0, 1, 2, 3]
    found = json.loads((tmp_path / "run/diagnose.json").read_text())
    level = found["levels"][0]["attainable"]
    assert level["high"] - level["mean"] == pytest.approx(student_quantile(16) * level["error"])


def sampler_of(name, **settings):
    return {"class_path": f"graft_lightning.processes.samplers.{name}", "init_args": {"steps": 8, **settings}}


ODES = {"DDIM": sampler_of("DDIM", eta=0.0, clip_sample=1.0), "Euler": sampler_of("Euler"), "Heun": sampler_of("Heun")}


def accepted_mean_of(pool):
    return float(TrajectoryPool.open(pool).round(0).rewards("Ink").sort(descending=True).values[:, :2].mean())


@pytest.mark.parametrize("sampler", ODES.values(), ids=ODES)
def test_under_an_ode_attainable_is_the_accepted_mean_at_every_level(tmp_path, capsys, monkeypatch, sampler, drawn):
    """No trajectory is finished for it; that finishing one gives the stored x_0, the next test says."""
    finished = []
    monkeypatch.setattr(diagnosis, "continue_from", lambda *arguments: finished.append(arguments))
    launch("diagnose", tmp_path, {"model.reference.sampler": sampler}, *FEW)
    found = json.loads((tmp_path / "run/diagnose.json").read_text())
    accepted = accepted_mean_of(tmp_path / "pool")
    assert not finished
    assert found["deterministic"] is True
    assert [level["fraction"] for level in found["levels"]] == [0.25, 0.5]
    for level in found["levels"]:
        assert [level["open_variance"][key] for key in ("mean", "low", "high")] == [0, 0, 0]
        assert level["attainable"]["mean"] == pytest.approx(accepted) == pytest.approx(found["reward"]["accepted"])
        assert level["attainable"]["low"] < accepted < level["attainable"]["high"]
        assert level["attainable"]["n"] == 8
        assert level["score_distance"]["mean"] > 0
    near, far = (level["score_distance"]["mean"] for level in found["levels"])
    assert near != far
    recommended = found["recommended"]
    assert recommended.pop("by") == "validation reward"
    assert set(recommended) >= {"N_I/N", "crossing", "low", "high"}
    assert set(recommended.values()) == {None}
    assert (tmp_path / "run/diagnose.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    name = sampler["class_path"].rsplit(".", 1)[-1]
    for words in (
        f"{name} is deterministic: x_0 is a function of x_s",
        "0 by construction",
        "attainable is the accepted mean at every level",
        "the highest validation reward",
        "N_I / N = 0.25, 0.5",
    ):
        assert words in printed, words
    assert "fresh noise" not in printed


@pytest.mark.parametrize("sampler", ["DDIM", "Heun"])
def test_an_ode_finishes_a_stored_state_at_the_stored_sample(tmp_path, sampler):
    """The rewards of all trajectories, finished from every kept level, are those of the pool."""
    cli = launch("diagnose", tmp_path, {"model.reference.sampler": ODES[sampler]}, *FEW)
    module, opened = cli.model, TrajectoryPool.open(tmp_path / "pool").round(0)
    for n, level in opened.kept_levels.items():
        states, texts, seeds = diagnosis._read(opened, torch.arange(len(opened)), n)
        frozen = module.opened().frozen
        found = continue_from(module.reference, frozen, Ink(), states, level.t, texts, seeds + 1, 8, "cpu")
        torch.testing.assert_close(found, opened.rewards("Ink").flatten().float(), rtol=0, atol=1e-4)


def test_under_an_ode_noised_x_0_are_finished(tmp_path, capsys):
    """Eq. 1 does not hold of an ODE's pairs: what `states: x_0` can reach is no longer the accepted mean."""
    changes = {"model.reference.sampler": ODES["DDIM"], "model.states": "x_0"}
    launch("diagnose", tmp_path, changes, *FEW, f"--real={json.dumps({'class_path': 'CaptionedDigits'})}")
    found = json.loads((tmp_path / "run/diagnose.json").read_text())
    for level in found["levels"]:
        assert level["attainable"]["n"] == level["from_real_data"]["n"] == 6
        assert level["attainable"]["mean"] != pytest.approx(found["reward"]["accepted"], abs=1e-5)
    assert "accepted x_0, noised to t, finished afresh" in capsys.readouterr().out


def test_states_are_finished_in_the_precision_that_they_were_drawn_in(tmp_path, monkeypatch):
    """As the pool was; rewards are given in full precision there too."""
    asked = {DigitReference: set(), Ink: set()}

    def noted(kind, name):
        own = getattr(kind, name)

        def call(*given):
            asked[kind].add(torch.is_autocast_enabled("cpu"))
            return own(*given)

        monkeypatch.setattr(kind, name, call)

    noted(DigitReference, "denoise")
    noted(Ink, "__call__")
    real = json.dumps({"class_path": "CaptionedDigits"})
    launch("diagnose", tmp_path, {"trainer.precision": "bf16-mixed"}, *FEW, f"--real={real}")
    assert asked == {DigitReference: {True}, Ink: {False}}


def test_a_sampler_that_draws_says_what_it_forgets(tmp_path, capsys):
    launch("diagnose", tmp_path, {"model.reference.sampler": sampler_of("DDIM", eta=0.1)}, *FEW)
    found = json.loads((tmp_path / "run/diagnose.json").read_text())
    assert found["deterministic"] is False
    assert found["recommended"]["by"] == "open variance"
    assert all(level["open_variance"]["mean"] > 0 for level in found["levels"])
    printed = capsys.readouterr().out
    assert "DDIM finishes x_s with fresh noise: of the tilt E[A | X_0] only E[E[A | X_s] | X_0] is left" in printed
    assert "a deterministic one (DDIM with eta 0, Euler) keeps all of it" in printed


def test_a_filled_pool_is_used_and_real_data_may_be_given(tmp_path):
    launch("fit", tmp_path, {"trainer.max_steps": 1})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "pool").rglob("*.safetensors")}
    launch("diagnose", tmp_path, {}, *FEW, "--real=CaptionedDigits")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pool").rglob("*.safetensors")} == before != {}
    found = json.loads((tmp_path / "run/diagnose.json").read_text())
    assert all(level["from_real_data"]["n"] == 6 for level in found["levels"])


def test_states_are_judged_by_the_reward_that_the_run_accepts_by(tmp_path):
    """Whether it is the first that is collected, or another one that ``data.reward`` names."""
    paper = {"class_path": "tests.runs.Paper"}
    ways = {
        "first": {"collect.reward": paper},
        "also": {"collect.also": [paper], "data.reward": "Paper"},
    }
    found = {}
    for name, changes in ways.items():
        launch("diagnose", tmp_path / name, changes, *FEW, "--real=CaptionedDigits")
        found[name] = json.loads((tmp_path / name / "run/diagnose.json").read_text())
    assert found["first"] == found["also"]
    assert found["also"]["reward"]["name"] == "Paper"
    assert found["also"]["levels"][0]["attainable"]["mean"] > found["also"]["reward"]["all"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"collect.reward": None}, ["collect.reward"]),
        ({"collect.keep": [], "model.handoff": 0.0}, ["collect.keep"]),
        ({"data.reward": "human"}, ["data.reward='human'", "Ink"]),  # nobody would judge the new samples
        ({"collect.reward": {"class_path": "tests.runs.Groupwise"}}, ["Groupwise compares the draws"]),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(tmp_path, capfd, changes, words):
    with pytest.raises(SystemExit) as exit_:
        main(arguments("diagnose", tmp_path, tiny_config(tmp_path, changes), *FEW))
    printed = capfd.readouterr().err
    assert exit_.value.code == 2
    assert all(word in printed for word in words)
    assert "Traceback" not in printed


ADVICE = {
    "found": (
        Recommendation(0.25, 0.3, 0.26, 0.35, False, False),
        ["N_I / N = 0.25, the highest", "0.3 (", "0.26 to 0.35"],
    ),
    "below": (
        Recommendation(0.25, math.nan, 0, 0.25, True, False),
        ["at or below N_I / N = 0.25: not resolved", "keep lower ones"],
    ),
    "above": (
        Recommendation(0.75, math.nan, 0.75, 1, False, True),
        ["at or above N_I / N = 0.75: nothing crosses", "higher levels"],
    ),
    "one level, decided": (
        recommended([0.25], [Estimate(0.05, 0.05, 9)], 0.1),
        ["at or above N_I / N = 0.25", "nothing crosses", "the data (not resolved) to the noise (not resolved)"],
    ),
    "one level, undecided": (
        recommended([0.25], [Estimate(0.15, 0.05, 9)], 0.1),
        ["at or below N_I / N = 0.25: not resolved", "the data (not resolved) to the noise (not resolved)"],
    ),
    "two levels, decided": (
        recommended([0.25, 0.5], [Estimate(0.05, 0.05, 9), Estimate(0.08, 0.05, 9)], 0.1),
        ["at or above N_I / N = 0.5", "the data (not resolved) to the noise (not resolved)"],
    ),
    "open": (
        Recommendation(0.25, 0.3, 0, 1, True, True),
        ["0.3 (", "the data (not resolved) to the noise (not resolved)"],
    ),
}


@pytest.mark.parametrize(("found", "words"), ADVICE.values(), ids=ADVICE)
def test_open_ends_are_said(found, words):
    assert all(word in _advice(found) for word in words)


def test_a_reward_that_is_the_same_everywhere_decides_nothing(tmp_path, capfd):
    changes = {"collect.reward": {"class_path": "tests.reports.test_diagnose.Same"}, "data.drop_without_signal": False}
    with pytest.raises(SystemExit) as exit_:
        main(arguments("diagnose", tmp_path, tiny_config(tmp_path, changes), *FEW))
    assert exit_.value.code == 2
    assert "the reward Same" in capfd.readouterr().err
