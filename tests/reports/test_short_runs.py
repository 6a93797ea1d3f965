"""Short runs are those of a fit with the same settings; placebo and tune leave nothing but what they say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from graft_lightning.callbacks.keep_best import differences
from graft_lightning.cli.main import main
from graft_lightning.processes.weightings import CappedInverseAlpha
from graft_lightning.reports.document import write_report
from graft_lightning.reports.placebo import placebo
from graft_lightning.reports.placebo import text_of as placebo_text
from graft_lightning.reports.placebo_chart import chosen_before
from graft_lightning.reports.short_runs import Point, Setting, ShortRuns, own_rate
from graft_lightning.reports.tuning import tune, with_settings
from graft_lightning.reports.without_signal import ShuffledRewards
from graft_lightning.types import SettingsError
from tests.runs import arguments, launch, tiny_config

NAN = float("nan")
EMA = [
    {"class_path": "TrainableEMA", "init_args": {"decay": 0.5}},
    {"class_path": "ModelCheckpoint", "init_args": {"save_last": True, "enable_version_counter": False}},
]


def runs_of(folder, changes=None, **settings):
    """Short runs on a fit's own module and data, built and not run."""
    cli = launch("plan", folder, changes, "--measure=false")
    evaluate = next(c for c in cli.trainer.callbacks if type(c).__name__ == "Evaluate")
    return cli, ShortRuns(cli.trainer, cli.model, cli.datamodule, cli.trainer.collector, evaluate, **settings)


@pytest.mark.parametrize("changes", [{}, {"model.baseline": "unselected"}, {"trainer.callbacks": EMA}], ids=str)
def test_a_short_run_is_the_fit_with_these_settings(tmp_path, changes, capsys):
    launch("fit", tmp_path, changes)
    expected = differences(tmp_path / "run", "Ink")
    _, runs = runs_of(tmp_path, changes)
    average = 0.5 if changes.get("trainer.callbacks") else 0.0
    points = runs.run(Setting(own_rate(runs.module)), [5, 10], [average])
    for point in points:
        found = expected[point.step]
        assert [point.reward[end] for end in ("mean", "low", "high")] == pytest.approx(
            [found[end] for end in ("mean", "low", "high")], abs=2e-6
        )
        assert point.setting.average == average
    assert runs.spent == 10


def test_every_run_begins_at_the_reference_and_leaves_it_as_it_was(tmp_path, capsys):
    cli, runs = runs_of(tmp_path)
    first = runs.run(Setting(0.01), [4], [0.0, 0.9])
    runs.run(Setting(0.1, baseline="unselected"), [3], selected=False)
    again = runs.run(Setting(0.01), [4], [0.0, 0.9])
    assert [p.rewards for p in first] == [p.rewards for p in again]
    assert first[0].rewards != first[1].rewards
    original = dict(cli.model.views.original.named_parameters())
    assert all(torch.equal(p, original[name]) for name, p in cli.model.network.named_parameters())
    assert type(cli.datamodule.acceptance).__name__ == "TopK"
    assert cli.model.pool_objective is None


def test_a_weighting_is_that_of_the_baseline_too(tmp_path, capsys):
    """Whether a configuration or a setting asks for the baseline, its loss is weighted alike."""
    weightings = {"capped": CappedInverseAlpha(1.5)}
    _, asked = runs_of(tmp_path, {"model.baseline": "unselected"}, weightings=weightings)
    (own,), (capped,) = (asked.run(Setting(0.01, weighting=name), [4]) for name in ("own", "capped"))
    assert own.rewards != capped.rewards
    assert asked.module.pool_objective.weighting is None
    same = {"model.reference.weights": f"{tmp_path}/reference.safetensors"}
    _, plain = runs_of(tmp_path / "plain", same, weightings=weightings)
    (set_by_hand,) = plain.run(Setting(0.01, weighting="capped", baseline="unselected"), [4])
    assert set_by_hand.rewards == capped.rewards


def test_conditions_without_signal_stay_where_a_run_keeps_them(tmp_path, capsys):
    seen = []
    cli, runs = runs_of(tmp_path, {"data.drop_without_signal": False})
    use = cli.datamodule.use
    cli.datamodule.use = lambda *given: (seen.append(cli.datamodule.drop_without_signal), use(*given))
    for selected in (True, False):
        runs.run(Setting(0.01), [1], selected=selected)
    assert seen == [False, False]
    assert cli.datamodule.drop_without_signal is False


def test_a_placebo_looks_at_no_reward(tmp_path, capsys):
    """Turned upside down, the reward changes nothing of the samples: only the sign of its difference."""
    _, up = runs_of(tmp_path)
    _, down = runs_of(
        tmp_path / "down",
        {
            "collect.reward": {"class_path": "tests.runs.Paper"},
            "evaluate.rewards": [{"class_path": "tests.runs.Paper"}],
            "model.reference.weights": f"{tmp_path}/reference.safetensors",
        },
    )
    (one,), (other,) = (r.run(Setting(0.01), [5], selected=False) for r in (up, down))
    assert one.reward["mean"] == pytest.approx(-other.reward["mean"], abs=1e-6)
    assert one.change == pytest.approx(other.change)
    (chosen,), (opposite,) = (r.run(Setting(0.01), [5]) for r in (up, down))
    assert abs(chosen.reward["mean"] + opposite.reward["mean"]) > 1e-4


class OneRound:
    """Two conditions of four draws."""

    index, draws = 0, 4

    def rewards(self, name):
        return torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])


def test_a_placebo_of_rewards_gives_each_draw_every_one_of_its_condition():
    found = torch.stack([ShuffledRewards(OneRound(), seed).rewards("r") for seed in range(4000)])
    assert torch.equal(found.sort(2).values, OneRound().rewards("r").expand_as(found))
    for value in (1.0, 6.0):
        share = (found == value).double().mean(0)[0 if value < 5 else 1]
        torch.testing.assert_close(share, torch.full((4,), 0.25).double(), rtol=0, atol=0.03)
    assert not torch.equal(found[:, 0], found[:, 1] - 4)  # conditions exchange apart
    assert ShuffledRewards(OneRound(), 0).draws == 4


RIVALS = {
    "rwr": {"class_path": "RWR", "init_args": {"temperature": 1e-4}},
    "raft": {"class_path": "RAFT"},
    "nft": {"class_path": "NFT"},
    "dgpo": {"class_path": "DGPO"},
}


@pytest.mark.parametrize("rival", RIVALS)
def test_a_placebo_of_an_objective_that_goes_by_rewards_differs_from_its_run(tmp_path, rival, capsys):
    """Whatever the rule: it would else train on the best draws, and call what selection gains a placebo."""
    kind = RIVALS[rival]
    named = {**kind, "class_path": f"graft_lightning.rejection.objectives.{kind['class_path']}"}
    _, runs = runs_of(tmp_path, {"model.objective": named})
    (selected,), (unselected,) = (runs.run(Setting(0.01), [4], selected=chosen) for chosen in (True, False))
    assert selected.rewards != unselected.rewards
    (again,) = runs.run(Setting(0.01), [4], selected=False)
    assert again.rewards == unselected.rewards


def test_placebo_and_tune_as_a_user_sees_them(tmp_path, capsys, drawn):
    config = tiny_config(tmp_path, {"data.eval_draws": 4})
    main(arguments("placebo", tmp_path, config, "--steps=6", "--rates=[0.02,0.001]"))
    said = capsys.readouterr().out
    assert "Fine-tuning on unselected samples" in said
    assert "lr 0.02, average 0.97" in said
    record = json.loads((tmp_path / "run/placebo.json").read_text())
    assert {(p["setting"]["lr"], p["step"]) for p in record["points"]} == {
        (r, s) for r in (0.02, 0.001) for s in (2, 6)
    }
    assert record["gradient_steps"] == 12
    assert (tmp_path / "run/placebo.png").stat().st_size > 10_000
    main(arguments("tune", tmp_path, config, "--budget=96", "--rates=[0.02,0.005]", "--averages=[0.0,0.5]"))
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "run/tuned.json").read_text())
    assert record["gradient_steps"] <= 96
    assert "Chosen: lr" in said  # the random reference of these runs brightens with any training
    tuned = yaml.safe_load((tmp_path / "run/tuned.yaml").read_text())
    chosen = record["chosen"]["setting"]
    assert tuned["model"]["init_args"]["optimizer"]["init_args"]["lr"] == chosen["lr"]
    assert tuned["trainer"]["max_steps"] == record["chosen"]["step"]
    main(["fit", f"--config={tmp_path}/run/tuned.yaml"])
    text = write_report([tmp_path / "run"], tmp_path / "report", {"stage": "validate"}).read_text()
    assert "![Placebo beside the run](placebo.png)" in text
    assert f"tuned within {record['gradient_steps']} gradient steps: lr" in text
    assert (tmp_path / "report/placebo.png").stat().st_size > 10_000
    found = differences(tmp_path / "run", "Ink")
    expected = record["chosen"]["rewards"]["Ink"]["mean"]
    if record["chosen"]["step"] in found:
        assert found[record["chosen"]["step"]]["mean"] == pytest.approx(expected, abs=1e-4)


def test_what_collects_nothing_has_no_placebo(tmp_path, capsys):
    config = tiny_config(tmp_path, {"data.validation": ...})
    with pytest.raises(SystemExit):
        main(arguments("placebo", tmp_path, config))
    assert "data.validation is needed" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["placebo", "tune"])
def test_a_reward_that_nothing_makes_is_refused(tmp_path, capsys, command):
    """A person's verdicts are in the pool; the samples of a short run have none."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments(command, tmp_path, tiny_config(tmp_path, {"data.reward": "human"})))
    assert "data.reward='human'" in capsys.readouterr().err


class Scripted:
    """Short runs whose outcome is written down, by rate and step; with the baseline a placebo never loses."""

    reward, base, weightings = "r", {"r": 0.4}, {}

    def __init__(self, placebo, gain):
        self.placebo, self.gain, self.spent, self.asked = placebo, gain, 0, []
        self.module = type("Module", (), {"optimizer": staticmethod(lambda p: torch.optim.SGD(p, lr=1.0))})()

    def run(self, setting, steps, averages=(0.0,), selected=True):
        self.asked.append((setting.lr, selected))
        self.spent += steps[-1]
        points = []
        for step in steps:
            for average in averages:
                held = setting.baseline == "unselected" and not selected
                mean = 0.0 if held else (self.gain if selected else self.placebo)(setting.lr, step)
                interval = {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "n": 64}
                points.append(Point(replace(setting, average=average), step, {"r": interval}, 0.1))
        return points


class Folder:
    fast_dev_run, loggers = 0, []

    def __init__(self, path):
        self.log_dir = self.default_root_dir = str(path)


def tuned(tmp_path, placebo, gain, **settings):
    runs = Scripted(placebo, gain)
    arguments = {"budget": 400, "rates": [1.0, 0.3, 0.1], "averages": [0.0], "baselines": ["own"], **settings}
    return runs, tune(Folder(tmp_path), runs, **arguments)


def test_rates_that_lose_under_placebo_are_left_out_and_the_surest_gain_is_chosen(tmp_path):
    runs, found = tuned(tmp_path, lambda lr, s: -0.3 if lr > 0.5 else 0.0, lambda lr, s: lr * s / 400)
    assert [rate for rate, selected in runs.asked if selected] == [0.3, 0.1]
    assert (found.point.setting.lr, found.record["chosen"]["step"]) == (0.3, 150)
    assert runs.spent <= 400
    assert "Left out, for the reward falls by itself: lr 1." in found.text


def test_a_baseline_has_a_placebo_of_its_own(tmp_path):
    """What is left out of the plain loss may be fit with the baseline."""
    runs, found = tuned(tmp_path, lambda lr, s: -0.3, lambda lr, s: lr / 2, baselines=["own", "unselected"])
    assert found.record["fit"] == [f"lr {rate}, less unselected" for rate in ("1", "0.3", "0.1")]
    assert found.point.setting == Setting(1.0, baseline="unselected")
    assert runs.spent <= 400


def test_of_equal_gains_the_shorter_run_is_chosen(tmp_path):
    _, found = tuned(tmp_path, lambda lr, s: 0.0, lambda lr, s: 0.2)
    assert found.point.step == min(p["step"] for p in found.record["tried"])


def test_where_nothing_beats_the_base_nothing_is_chosen(tmp_path):
    runs, found = tuned(tmp_path, lambda lr, s: -0.3, lambda lr, s: 0.04)  # not significantly above 0
    assert found.point is None
    assert [rate for rate, selected in runs.asked if selected] == [0.1]  # the smallest is tried all the same
    assert "Nothing beats the base (r 0.400)" in found.text


def test_a_run_without_a_score_hides_no_gain_of_others(tmp_path):
    """The largest rate is tried first; its weights are not finite, and neither are its differences."""
    _, found = tuned(tmp_path, lambda lr, s: 0.0, lambda lr, s: NAN if lr > 0.5 else lr)
    assert found.point.setting.lr == 0.3
    runs, found = tuned(tmp_path, lambda lr, s: NAN if lr > 0.5 else 0.0, lambda lr, s: lr)
    assert [rate for rate, selected in runs.asked if selected] == [0.3, 0.1]
    assert found.point.setting.lr == 0.3


def test_a_budget_that_shows_nothing_is_refused_with_the_least_that_does(tmp_path):
    with pytest.raises(SettingsError, match=r"budget=50 .* at least (\d+) are needed"):
        tuned(tmp_path, lambda lr, s: 0.0, lambda lr, s: 0.0, budget=50)
    tuned(tmp_path, lambda lr, s: 0.0, lambda lr, s: 0.0, budget=97)


def test_a_placebo_is_told_in_words():
    def said(*means):
        points = [
            Point(Setting(1 / 10**i), 9, {"r": {"mean": m, "low": m - 0.01, "high": m + 0.01, "n": 9}}, None)
            for i, m in enumerate(means)
        ]
        record = {"reward": "r", "steps": 9, "base": {"r": 0.4}, "gradient_steps": 9 * len(points)}
        return placebo_text(record, points, Path("x"))

    assert "None of these settings lowers r by itself" in said(0.0, 0.0)
    assert "falls by itself at 1 of 2 settings; the largest rate at which it does not: lr 0.1." in said(-0.2, 0.0)
    assert "does not control" in said(-0.2, -0.1)
    assert "falls by itself at 1 of 2 settings" in said(NAN, 0.0)


def test_a_placebo_without_a_score_is_recorded_drawn_and_told(tmp_path, drawn):
    runs = Scripted(lambda lr, s: NAN if lr > 0.5 else 0.0, None)
    text = placebo(Folder(tmp_path), runs, [1.0, 0.1], [0.0], 9)
    assert "falls by itself at 1 of 2 settings" in text
    assert (tmp_path / "placebo.png").stat().st_size > 10_000
    (told, *_) = [line for line in chosen_before([tmp_path], tmp_path / "report") if "unselected samples" in line]
    assert "is not told" in told
    assert "does not fall" not in told


def test_a_chosen_setting_goes_where_the_configuration_has_it():
    config = {
        "model": {"init_args": {"optimizer": {"class_path": "A", "init_args": {"lr": 1, "b": 2}}}},
        "trainer": {"max_steps": 300, "callbacks": [{"class_path": "TrainableEMA"}, {"class_path": "ModelCheckpoint"}]},
    }
    point = Point(Setting(0.5, "capped at 9", "unselected", 0.9), 70, {"r": {}}, None)
    found = with_settings(config, point, {"capped at 9": {"class_path": "C", "init_args": {"cap": 9}}})
    model, trainer = found["model"]["init_args"], found["trainer"]
    assert model["optimizer"] == {"class_path": "A", "init_args": {"lr": 0.5, "b": 2}}
    assert (model["baseline"], trainer["max_steps"]) == ("unselected", 70)
    assert model["objective"]["init_args"]["weighting"]["init_args"] == {"cap": 9}
    assert [c.get("init_args", {}).get("decay") for c in trainer["callbacks"]] == [0.9, None]
    none = with_settings(found, Point(Setting(0.5), 70, {"r": {}}, None), {})
    assert [c["class_path"] for c in none["trainer"]["callbacks"]] == ["ModelCheckpoint"]
