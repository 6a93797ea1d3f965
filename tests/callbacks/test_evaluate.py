import json
import math
import threading
from types import SimpleNamespace

import pytest
import torch
import torchmetrics

from graft_lightning.callbacks.base_scores import base_key
from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.evaluate import Evaluate, _number_of
from graft_lightning.callbacks.score_rows import summarise, table
from graft_lightning.callbacks.trained_reward import trained_reward
from graft_lightning.datamodules.evaluation import draws_of
from graft_lightning.domains.base import Texts
from graft_lightning.domains.base.diversity import Diversity
from graft_lightning.domains.digits import DigitReference
from graft_lightning.modules.graft import PGraft
from graft_lightning.rejection.codec import Codec
from graft_lightning.runs import read_records, retire_records
from graft_lightning.statistics import interval, without_interval
from graft_lightning.types import SettingsError
from tests.runs import HELD_OUT, Ink, launch

ROWS = [("b", 0, [1.0]), ("a", 1, [3.0]), ("a", 0, [2.0]), ("b", 1, [math.nan])]


def test_summary_over_conditions_by_hand():
    figure = summarise(ROWS, 0)
    means = [2.5, 1.0]  # of a; of b, whose second draw could not be scored
    half = math.tan(0.475 * math.pi) * math.sqrt(2 * 0.75**2) / math.sqrt(2)  # Student's t, one degree of freedom
    assert figure == pytest.approx({"mean": 1.75, "low": 1.75 - half, "high": 1.75 + half, "n": 2})
    assert sum(means) / 2 == figure["mean"]
    assert summarise(ROWS[:1], 0) == pytest.approx(without_interval(1.0), nan_ok=True)
    one = summarise([("", number, [score]) for number, score in enumerate((0.2, 0.4, 0.9))], 0)
    assert one == pytest.approx(interval([0.2, 0.4, 0.9]))
    assert summarise(ROWS[3:], 0)["n"] == 0


def test_scores_are_stored_by_condition_and_draw():
    stored = table(sorted(ROWS, key=lambda row: row[:2]), 0)
    assert stored[0] == [2.0, 3.0]
    assert stored[1][0] == 1.0
    assert math.isnan(stored[1][1])


def test_of_repeated_records_the_last_counts_and_half_a_line_is_left_out(tmp_path):
    lines = [{"stage": "validate", "method": "graft", "step": s, "n": n} for s, n in ((5, 1), (10, 2), (10, 3))]
    text = "\n".join(map(json.dumps, lines)) + '\n{"stage": "valid'
    (tmp_path / "evaluation.jsonl").write_text(text)
    assert [(r["step"], r["n"]) for r in read_records(tmp_path)] == [(5, 1), (10, 3)]
    retire_records(tmp_path)
    assert read_records(tmp_path) == []


def direct(cli, purpose, denoiser=None):
    """Samples of the held-out draws, all at once, and their scores ``(conditions, draws)`` sorted by condition."""
    module, data = cli.model, cli.datamodule
    module.eval()
    with torch.no_grad():
        draws = draws_of(Texts(sorted(HELD_OUT)), data.eval_draws, data.seed, purpose)
        samples = module.reference.decode(module.sample(draws, denoiser))
    return samples, Ink()(samples, draws.conditions).reshape(len(HELD_OUT), -1), draws.conditions


def assert_record(record, samples, scores, texts):
    torch.testing.assert_close(torch.tensor(record["scores"]["Ink"]), scores, rtol=0, atol=1e-5)
    assert record["metrics"]["Ink"]["mean"] == pytest.approx(float(scores.mean()), abs=1e-5)
    assert record["metrics"]["Ink"]["n"] == len(HELD_OUT)
    diversity = Diversity()
    diversity.update(samples, texts)
    found = record["metrics"]["Diversity"]
    assert found["mean"] == pytest.approx(float(diversity.compute()), rel=1e-4)
    assert math.isnan(found["low"])
    assert math.isnan(found["high"])


def test_records_are_those_of_a_direct_computation(tmp_path):
    cli = launch("fit", tmp_path)
    records = {(r["method"], r["step"]): r for r in read_records(tmp_path / "run")}
    assert set(records) == {("base", 0), ("pgraft@0.25", 5), ("pgraft@0.25", 10)}
    assert_record(records["base", 0], *direct(cli, "validation", cli.model.opened().frozen))
    assert_record(records["pgraft@0.25", 10], *direct(cli, "validation"))
    assert records["base", 0]["scores"] != records["pgraft@0.25", 10]["scores"]
    logged = float(cli.trainer.callback_metrics["validate/Ink"])
    assert logged == pytest.approx(records["pgraft@0.25", 10]["metrics"]["Ink"]["mean"], abs=1e-6)


def test_an_untrained_model_is_evaluated_exactly_as_the_base(tmp_path):
    base = launch("fit", tmp_path / "base", {"trainer.max_steps": 1, "trainer.limit_val_batches": 0})
    expected = read_records(tmp_path / "base/run")[0]
    assert expected["method"] == "base"
    for name, changes in (
        ("pgraft", {}),
        ("reverse", {"model.reverse": True}),
        ("lora", {"model.lora": {"rank": 2}}),
        ("graft", {"model.handoff": 0.0}),
    ):
        launch("validate", tmp_path / name, changes)
        (record,) = read_records(tmp_path / name / "run")
        assert record["scores"] == expected["scores"], name
        assert record["metrics"] == expected["metrics"]
        assert record["step"] == 0
    cli = launch("test", tmp_path / "pgraft")
    tested = next(r for r in read_records(tmp_path / "pgraft/run") if r["stage"] == "test")
    assert_record(tested, *direct(cli, "test", cli.model.opened().frozen))
    assert tested["scores"] != expected["scores"]  # seeds of their own
    assert base.datamodule.seed == cli.datamodule.seed


def test_a_name_in_reports_can_be_given_and_trained_steps_are_those_of_the_checkpoint(tmp_path):
    launch("fit", tmp_path, {"trainer.limit_val_batches": 0, "evaluate.baseline": False})
    last = f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    launch("test", tmp_path, {"evaluate.method": "mine"}, last)
    found = [(record["stage"], record["method"], record["step"]) for record in read_records(tmp_path / "run")]
    assert found == [("test", "base", 0), ("test", "mine", 10)]


def test_a_base_that_was_tested_in_this_folder_does_not_stand_for_its_validation(tmp_path):
    launch("fit", tmp_path, {"trainer.max_steps": 5, "evaluate.baseline": False})
    launch("test", tmp_path, {"evaluate.method": "base"})
    launch("fit", tmp_path, {}, "--ckpt_path=last")
    assert ("validate", "base") in {(r["stage"], r["method"]) for r in read_records(tmp_path / "run")}


def test_without_held_out_conditions_nothing_is_evaluated(tmp_path):
    cli = launch("fit", tmp_path, {"data.validation": None})
    assert cli.trainer.global_step == 10
    assert read_records(tmp_path / "run") == []


def test_pictures_of_base_and_model_lie_in_the_folder(tmp_path, drawn):
    from PIL import Image

    launch("fit", tmp_path)
    launch("test", tmp_path, None, f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt")
    sizes = {name: Image.open(tmp_path / f"run/{name}.png").size for name in ("base", "validate", "test")}
    assert len(set(sizes.values())) == 1


class Dark(Ink):
    """A judge that sees the opposite of the reward."""

    def __call__(self, samples, conditions):
        return 1 - super().__call__(samples, conditions)


DARK = {"class_path": "tests.callbacks.test_evaluate.Dark"}
INK = {"class_path": "tests.runs.Ink"}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"evaluate.rewards": [DARK]}, ["Ink", "Dark"]),
        ({"evaluate.rewards": None}, ["Ink"]),
        ({"evaluate.rewards": [DARK, INK]}, ["Ink", "Dark"]),
        ({"collect.reward": DARK, "evaluate.rewards": [INK]}, ["Dark", "Ink"]),
        ({"collect.also": [DARK], "data.reward": "Dark", "evaluate.rewards": [INK]}, ["Dark", "Ink"]),
        (
            {"evaluate.rewards": [{"class_path": "tests.callbacks.test_evaluate.Named", "init_args": {"gain": 2.0}}]},
            ["Ink", "Ink-2"],
        ),
    ],
)
def test_the_reward_that_is_trained_on_comes_first_unasked(tmp_path, changes, names):
    short = {"trainer.max_steps": 1, "trainer.limit_val_batches": 0}
    launch("fit", tmp_path, {**short, **changes})
    (record,) = read_records(tmp_path / "run")
    assert list(record["scores"]) == names
    if names == ["Ink", "Ink-2"]:
        assert record["metrics"]["Ink-2"]["mean"] == pytest.approx(2 * record["metrics"]["Ink"]["mean"], abs=1e-5)


class Named(Ink):
    """Another score of the same name."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def __call__(self, samples, conditions):
        return self.gain * super().__call__(samples, conditions)

    @property
    def name(self):
        return "Ink"


def test_the_alarm_of_the_gap_is_about_the_reward_that_is_trained_on():
    trainer, data = SimpleNamespace(callbacks=[Collect(Ink(), also=[Dark()])]), SimpleNamespace(reward="Dark")
    assert trained_reward(trainer, data)[0] == "Dark"
    assert trained_reward(trainer, SimpleNamespace(reward=None))[0] == "Ink"
    assert trained_reward(trainer, SimpleNamespace(reward="human")) == ("human", None)
    assert trained_reward(SimpleNamespace(callbacks=[Collect()]), data) == (None, None)


def test_a_test_scores_the_base_once_for_all_runs_that_share_a_pool(tmp_path, monkeypatch):
    sampled = []
    original = PGraft.sample_base
    monkeypatch.setattr(PGraft, "sample_base", lambda *args: sampled.append(1) or original(*args))
    other = {"trainer.logger.name": "other", "model.handoff": 0.5}
    for changes, name in (({}, "run"), (other, "other")):
        cli = launch("fit", tmp_path, {**changes, "evaluate.baseline": False})
        sampled.clear()
        launch("test", tmp_path, changes, f"--ckpt_path={tmp_path}/{name}/checkpoints/last.ckpt")
        batches = len(HELD_OUT) * 2 / 4
        assert len(sampled) == (1 + math.ceil(batches) if name == "run" else 1)  # and once to see what has changed
        base, tuned = (r for r in read_records(tmp_path / name) if r["stage"] == "test")
        assert_record(base, *direct(cli, "test", cli.model.opened().frozen))
        assert (base["method"], tuned["method"]) == ("base", cli.model.method)
        assert base["run"] == tuned["run"]
    sampled.clear()
    launch("test", tmp_path, {"data.eval_draws": 1}, f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt")
    assert len(sampled) > 1, "other draws have another base"


class Halved(Codec):
    def numbers(self, samples):
        return super().numbers(samples) / 2


def test_the_scores_of_the_base_are_of_a_metrics_settings_and_not_of_what_it_has_seen():
    module = SimpleNamespace(reference_fingerprint=dict)
    data = SimpleNamespace(test=Texts(HELD_OUT), eval_draws=2, seed=0)
    seen = Diversity()
    seen.update(torch.rand(2, 1, 4, 4), ["two ones"] * 2)
    keys = [base_key(module, data, [Ink()], [metric]) for metric in (Diversity(), seen, Diversity(Halved()))]
    assert keys[0] == keys[1] != keys[2]
    assert seen.compute().isfinite()


def test_a_test_leaves_the_curves_of_validation_alone(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def curves():
        board = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0, "images": 0}).Reload()
        tags = board.Tags()
        scalars = {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in tags["scalars"]}
        return scalars, {tag: [e.step for e in board.Images(tag)] for tag in tags["images"]}

    launch("fit", tmp_path)
    scalars, images = curves()
    launch("test", tmp_path, None, f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt")
    after, images_after = curves()
    ours = [tag for tag in scalars if tag.startswith(("1_", "2_", "7_", "8_"))]
    assert len(ours) > 8
    assert {tag: after[tag] for tag in ours} == {tag: scalars[tag] for tag in ours}
    assert [step for step, _ in after["6_test/Ink"]] == [10]
    assert [step for step, _ in after["7_watched_of_test/blank"]] == [10]
    assert images_after["6_samples/test"] == [10]
    assert {tag: images_after[tag] for tag in images} == images


class Apart(Ink):
    """Judged elsewhere; the first batch of an evaluation only when the next one has been decoded."""

    apart = True
    waits = False
    decoded = threading.Semaphore(0)

    def __call__(self, samples, conditions):
        if self.waits:
            type(self).waits = False
            for _ in range(2):  # this one, and the next
                assert self.decoded.acquire(timeout=20), "nothing was decoded while this was waited for"
        return super().__call__(samples, conditions)


def test_the_next_batch_is_sampled_while_one_is_judged_elsewhere(tmp_path, monkeypatch):
    """And what is recorded, and shown, is the same."""
    few = {"data.eval_batch_size": 2, "evaluate.metrics": []}
    decode = DigitReference.decode
    monkeypatch.setattr(DigitReference, "decode", lambda self, x_0: (Apart.decoded.release(), decode(self, x_0))[1])
    found = []
    for path in ("tests.runs.Ink", "tests.callbacks.test_evaluate.Apart"):
        folder = tmp_path / path
        monkeypatch.setattr(Apart, "waits", True)
        monkeypatch.setattr(Apart, "decoded", threading.Semaphore(0))
        cli = launch("test", folder, {**few, "evaluate.rewards": [{"class_path": path}], "collect.reward": None})
        evaluate = next(callback for callback in cli.trainer.callbacks if isinstance(callback, Evaluate))
        (record,) = read_records(folder / "run")
        found.append((list(record["scores"].values()), [(shown.text, shown.scores) for shown in evaluate._shown]))
    assert not Apart.waits
    assert found[0] == found[1]


def test_what_fails_elsewhere_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        launch("test", tmp_path, {"evaluate.rewards": [{"class_path": "tests.callbacks.test_evaluate.Gone"}]})
    assert "the line is dead" in capsys.readouterr().err


class Gone(Ink):
    apart = True

    def __call__(self, samples, conditions):
        if threading.current_thread() is not threading.main_thread():
            raise ConnectionError("the line is dead")
        return super().__call__(samples, conditions)


class Figure(torchmetrics.Metric):
    """Gives what it is told to."""

    def __init__(self, found=1.0):
        super().__init__()
        self.found = found

    def update(self, samples, conditions):
        pass

    def compute(self):
        return self.found


def test_metrics_of_one_class_have_names_of_their_own():
    evaluate = Evaluate([Ink(), Ink()], [Figure(), Figure(2.0)])
    assert (evaluate.names, evaluate.metric_names) == (["Ink", "Ink-2"], ["Figure", "Figure-2"])


@pytest.mark.parametrize(
    ("found", "told"),
    [(torch.ones(3), r"Tensor of shape \(3,\)"), ({"a": 1.0}, "dict"), (None, "NoneType"), ((1.0, 2.0), "tuple")],
    ids=["vector", "dict", "none", "pair"],
)
def test_a_metric_that_gives_no_single_number_is_named(found, told):
    with pytest.raises(SettingsError, match=rf"evaluate\.metrics: Figure\.compute returned a {told}; .* one number"):
        _number_of(Figure(found))
    assert _number_of(Figure(torch.tensor([2.0]))) == 2.0
