"""Each alarm is raised by a case that deserves it, and by no healthy one."""

import json
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from graft_lightning.callbacks.alarms import Alarms, gaps, raised
from graft_lightning.callbacks.evaluate import Evaluate
from graft_lightning.domains.digits import DigitReference
from graft_lightning.runs import ALARMS, read_records
from graft_lightning.statistics import interval
from tests.runs import Ink, launch

HEALTHY = {"blank": 0.0, "duplicates": 0.01, "diversity": 5.6, "change": 0.3, "sharpness": 0.17}
BASE = {"blank": 0.0, "duplicates": 0.01, "diversity": 7.3, "sharpness": 0.2}


def names(figures, base=BASE, found=(), **limits):
    return set(raised(Alarms(**limits), {**HEALTHY, **figures}, base, found))


def test_a_healthy_evaluation_raises_nothing():
    assert names({}) == set()
    assert names({}, base={}) == set()
    assert raised(Alarms(), {}, {}, []) == {}


def test_each_figure_raises_its_own_alarm():
    assert names({"blank": 0.02}) == {"blank"}
    assert names({"duplicates": 0.07}) == {"duplicates"}
    assert names({"diversity": 3.6}) == {"diversity"}
    assert names({"sharpness": 0.09}) == {"sharpness"}
    assert names({"drift": 0.6, "drift_of_halves": 1.0}) == {"drift"}
    assert names({"drift": 0.4, "drift_of_halves": 1.0}) == set()
    assert names({"change": 0.0}) == {"change"}
    assert names({"change": 2e-4}) == {"change"}


def test_shares_are_measured_from_the_base():
    assert names({"blank": 0.3, "duplicates": 0.5}, base={"blank": 0.3, "duplicates": 0.5}) == set()
    assert names({"blank": 0.3}, base={}) == {"blank"}


def test_limits_are_those_that_were_set():
    assert names({}, diversity=0.8) == {"diversity"}
    assert names({"diversity": 1.0}, diversity=0.1) == set()


def table(mean, rise=0.0, conditions=20, draws=4, seed=0, spread=0.1):
    noise = torch.randn(conditions, draws, generator=torch.Generator().manual_seed(seed)) * spread
    return (mean + rise + noise).tolist()


def found(reward_rise, judge_rise, **kwargs):
    base = {"reward": table(0.4, seed=1), "judge": table(0.6, seed=2)}
    now = {"reward": table(0.4, reward_rise, seed=3), "judge": table(0.6, judge_rise, seed=4)}
    return gaps("reward", now, base)


@pytest.mark.parametrize(
    ("reward_rise", "judge_rise", "alarm"),
    [
        (0.3, 0.0, True),
        (0.3, -0.2, True),
        (0.3, 0.25, False),
        (0.3, 0.1, False),  # behind, but rising
        (0.0, 0.0, False),
        (-0.2, -0.2, False),
        (0.0, -0.3, False),  # the reward has not risen either: a bad run, not an exploited reward
    ],
)
def test_the_gap_between_reward_and_judge(reward_rise, judge_rise, alarm):
    (gap,) = found(reward_rise, judge_rise)
    assert gap.alarming == alarm
    assert set(raised(Alarms(), HEALTHY, BASE, [gap])) == ({"gap/judge"} if alarm else set())


def test_the_gap_by_hand():
    base = {"r": [[0.0, 2.0], [0.0, 2.0]], "j": [[0.0, 4.0], [0.0, 4.0]]}  # deviations 1 and 2
    now = {"r": [[2.0, 2.0], [3.0, 3.0]], "j": [[2.0, 2.0], [4.0, 4.0]]}
    (gap,) = gaps("r", now, base)
    assert gap.reward_rise[0] == pytest.approx(1.5)
    assert gap.judge_rise[0] == pytest.approx(1.0)
    assert gap.behind[0] == pytest.approx((1 / 1 - 0 / 2 + 2 / 1 - 2 / 2) / 2)
    half = 12.706205 * 0.5 * 2**0.5 / 2**0.5
    assert gap.reward_rise[1:] == pytest.approx((1.5 - half, 1.5 + half))


@pytest.mark.parametrize(("judge_rise", "alarm"), [(0.0, True), (0.3, False)])
def test_the_gap_of_one_condition_is_over_its_samples(judge_rise, alarm):
    """Each sample against the base's of the same seed, which takes out what the two have in common."""
    base = {"reward": table(0.4, conditions=1, draws=40, seed=1), "judge": table(0.6, conditions=1, draws=40, seed=2)}
    rises = {"reward": table(0.3, conditions=1, draws=40, seed=3, spread=0.02),
             "judge": table(judge_rise, conditions=1, draws=40, seed=4, spread=0.02)}  # fmt: skip
    rises["judge"][0][7] = float("nan")
    now = {name: [[b + r for b, r in zip(base[name][0], rises[name][0], strict=True)]] for name in base}
    (gap,) = gaps("reward", now, base)
    assert gap.alarming == alarm
    figure = interval(rises["reward"][0])
    assert gap.reward_rise == pytest.approx((figure["mean"], figure["low"], figure["high"]))


def test_one_condition_with_other_draws_or_a_single_one_has_no_gap():
    base = {"r": [[0.0, 1.0]], "j": [[0.0, 1.0]]}
    assert gaps("r", {"r": [[1.0, 1.0, 1.0]], "j": [[0.0, 1.0, 1.0]]}, base) == []
    assert gaps("r", {"r": [[1.0]], "j": [[0.0]]}, {"r": [[0.5]], "j": [[0.0]]}) == []


def test_no_gap_without_the_same_conditions_or_without_spread():
    assert gaps("r", {"r": [[1.0], [2.0]], "j": [[1.0], [2.0]]}, {"r": [[1.0]], "j": [[1.0]]}) == []
    assert gaps("r", {"r": [[1.0], [2.0]]}, {"r": [[1.0], [2.0]]}) == []
    flat = {"r": [[1.0], [2.0]], "j": [[1.0], [1.0]]}
    assert gaps("r", flat, flat) == []


def test_scores_that_are_not_finite_are_left_out():
    nan = float("nan")
    base = {"r": [[0.0, nan], [0.0, 1.0], [nan, nan]], "j": [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]}
    now = {"r": [[1.0, 1.0], [1.5, 1.5], [1.0, 1.0]], "j": base["j"]}
    (gap,) = gaps("r", now, base)
    assert gap.reward_rise[0] == pytest.approx(1.0)
    assert gap.judge_rise[0] == 0


class Darkness(Ink):
    """A judge that sees the opposite of the reward."""

    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        return 1 - super().__call__(samples, conditions)


class Black(DigitReference):
    """Decodes every state to black."""

    def decode(self, x_0):
        return super().decode(x_0) * 0


class Keyed(DigitReference):
    """All samples are equal."""

    def keys(self, samples):
        return torch.full((len(samples),), 11)


def records(folder):
    return {(r["stage"], r["method"], r["step"]): r for r in read_records(folder / "run", ALARMS)}


def test_a_healthy_run_raises_nothing_and_writes_what_it_watched(tmp_path, capsys):
    launch("fit", tmp_path)
    assert "alarm" not in capsys.readouterr().err
    written = records(tmp_path)
    assert set(written) == {(r["stage"], r["method"], r["step"]) for r in read_records(tmp_path / "run")}
    assert all(record["alarms"] == {} for record in written.values()), written
    base, last = written["validate", "base", 0], written["validate", "pgraft@0.25", 10]
    assert "change" not in base["metrics"]
    assert last["metrics"]["change"] > 0.01
    assert last["metrics"]["diversity"] > 0
    launch("fit", tmp_path)
    assert len((tmp_path / "run/alarms.jsonl").read_text().splitlines()) == len(written)


def test_a_learning_rate_of_zero_is_told(tmp_path, capsys):
    launch("fit", tmp_path, {"model.optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.0}}})
    last = records(tmp_path)["validate", "pgraft@0.25", 10]
    assert set(last["alarms"]) == {"change"}
    told = [line for line in capsys.readouterr().err.splitlines() if "alarm" in line]
    assert len(told) == 2  # one evaluation an epoch
    assert all("fine-tuning has no effect" in line for line in told)


@pytest.mark.parametrize("trained", [True, False])
def test_without_a_baseline_the_base_is_drawn_again(tmp_path, trained):
    lr = 0.01 if trained else 0.0
    changes = {
        "evaluate.baseline": False,
        "model.optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": lr}},
    }
    launch("fit", tmp_path, changes)
    assert ("change" in records(tmp_path)["validate", "pgraft@0.25", 10]["alarms"]) != trained
    launch("test", tmp_path, changes, f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt")
    assert ("change" in records(tmp_path)["test", "pgraft@0.25", 10]["alarms"]) != trained
    launch("test", tmp_path / "untrained", changes)
    assert records(tmp_path / "untrained")["test", "pgraft@0.25", 0]["alarms"] == {}


def test_black_pictures_are_told(tmp_path):
    launch("test", tmp_path, config=_with_reference(tmp_path, "Black"))
    base = records(tmp_path)["test", "pgraft@0.25", 0]
    assert set(base["alarms"]) == {"blank", "duplicates"}


def test_equal_keys_are_told(tmp_path):
    launch("fit", tmp_path, config=_with_reference(tmp_path, "Keyed"))
    assert "duplicates" in records(tmp_path)["validate", "base", 0]["alarms"]


def _with_reference(folder, name):
    from tests.runs import tiny_config

    config = tiny_config(folder)
    config["model"]["init_args"]["reference"]["class_path"] = f"tests.callbacks.test_alarms.{name}"
    config["trainer"]["max_steps"] = 1
    return config


def test_a_judge_that_falls_while_the_reward_rises_is_told_and_shown(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    judges = [{"class_path": "tests.runs.Ink"}, {"class_path": "tests.callbacks.test_alarms.Darkness"}]
    launch("fit", tmp_path, {"evaluate.rewards": judges, "data.eval_draws": 16, "trainer.max_steps": 60})
    last = records(tmp_path)["validate", "pgraft@0.25", 60]
    scores = {name: f["mean"] for name, f in read_records(tmp_path / "run")[-1]["metrics"].items()}
    assert scores["Ink"] > read_records(tmp_path / "run")[0]["metrics"]["Ink"]["mean"], "the case is not constructed"
    assert "gap/Darkness" in last["alarms"]
    board = EventAccumulator(str(tmp_path / "run")).Reload()
    tags = board.Tags()
    assert {
        "7_watched/blank",
        "7_watched/diversity_share",
        "7_watched/sharpness_share",
        "7_watched/gap/Darkness/low",
    } <= {*tags["scalars"]}
    assert "alarms/text_summary" in tags["tensors"]
    shown = {tag: [event.value for event in board.Scalars(tag)] for tag in tags["scalars"] if tag.startswith("9_")}
    assert {tag for tag, values in shown.items() if values[-1]} == {f"9_alarms/{name}" for name in last["alarms"]}


def test_switched_off_there_is_nothing(tmp_path):
    launch("fit", tmp_path, {"evaluate.alarms": {"on": False}})
    assert not (tmp_path / "run/alarms.jsonl").exists()


def test_two_processes_see_what_one_sees(tmp_path):
    sgd = {"model.optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}}}
    launch("fit", tmp_path / "one", sgd)
    two = {"trainer.devices": 2, "trainer.strategy": "ddp_fork", "data.batch_size": 2}
    launch("fit", tmp_path / "two", {**sgd, **two})
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert one.keys() == two.keys()
    for key in one:
        assert one[key]["alarms"] == two[key]["alarms"]
        same = {name: value for name, value in one[key]["metrics"].items() if name != "change"}
        assert {n: v for n, v in two[key]["metrics"].items() if n != "change"} == pytest.approx(same, rel=1e-4)
        assert ("change" in one[key]["metrics"]) == ("change" in two[key]["metrics"])


def test_a_line_that_was_not_finished_is_left_out(tmp_path):
    record = {"stage": "test", "method": "graft", "step": 3, "metrics": {}, "alarms": {}}
    (tmp_path / "alarms.jsonl").write_text(json.dumps(record) + '\n{"stage": "te')
    assert read_records(tmp_path, ALARMS) == [record]


def test_the_drift_in_named_features_is_told(tmp_path):
    features = {"class_path": "graft_lightning.domains.digits.flow.DigitFeatures"}
    changes = {"evaluate.features": features, "data.eval_draws": 40, "trainer.max_steps": 40}
    launch("fit", tmp_path, {**changes, "data.eval_batch_size": 120, "model.optimizer.lr": 0.1})
    found = records(tmp_path)
    assert "drift" not in found["validate", "base", 0]["metrics"]
    last = found["validate", "pgraft@0.25", 40]
    assert last["metrics"]["drift"] > last["metrics"]["drift_of_halves"] / 2 > 0
    assert "from the base's of the same seeds in the features" in last["alarms"]["drift"]


def test_the_drift_is_told_too_where_another_run_has_sampled_the_base_of_a_test(tmp_path, monkeypatch):
    features = {"class_path": "graft_lightning.domains.digits.flow.DigitFeatures"}
    plain = {"data.eval_draws": 40, "trainer.max_steps": 40, "data.eval_batch_size": 120, "model.optimizer.lr": 0.1}
    changes = {**plain, "evaluate.features": features}
    checkpoint = f"--ckpt_path={tmp_path / 'run/checkpoints/last.ckpt'}"
    launch("fit", tmp_path, {**plain, "evaluate.baseline": False})
    launch("test", tmp_path, plain, checkpoint)  # keeps the base's scores, and no features
    assert "drift" not in records(tmp_path)["test", "pgraft@0.25", 40]["metrics"]
    launch("test", tmp_path, changes, checkpoint)
    figures = records(tmp_path)["test", "pgraft@0.25", 40]["metrics"]
    assert figures["drift"] > 0
    (tmp_path / "run/base-features-test.safetensors").unlink()
    (tmp_path / "run/alarms.jsonl").unlink()
    monkeypatch.setattr(Evaluate, "_sample_base", None)  # would be called no more
    launch("test", tmp_path, changes, checkpoint)
    assert records(tmp_path)["test", "pgraft@0.25", 40]["metrics"] == figures
