"""What a run shows in TensorBoard: every tag of the dashboards, with the steps and values that its records hold."""

import json
import re

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from graft_lightning.callbacks.board import shown_as
from tests import corrections
from tests.runs import Remember, launch

pytestmark = pytest.mark.usefixtures("drawn")

LEVELS = re.compile(r"3_loss_by_level/t=(0\.[02468])T-(0\.[2468]|1\.0)T")


def board(folder):
    # Nothing is thinned out: by default ten images a tag are kept.
    return EventAccumulator(str(folder / "run"), size_guidance={"images": 0, "scalars": 0, "tensors": 0}).Reload()


def scalars(shown, tag):
    return {event.step: event.value for event in shown.Scalars(shown_as(tag))}


def images(shown, tag):
    found = {event.step: event for event in shown.Images(shown_as(tag))}
    assert all(event.encoded_image_string.startswith(b"\x89PNG") for event in found.values())
    return {step: event.encoded_image_string for step, event in found.items()}


def levels_of(shown):
    """The ranges of noise levels that a loss is shown of, as shares of T."""
    tags = [tag for tag in shown.Tags()["scalars"] if tag.startswith("3_loss_by_level/")]
    return sorted(tuple(map(float, LEVELS.fullmatch(tag).groups())) for tag in tags)


def assert_page_shows_what_is_there(shown):
    """The page CUSTOM SCALARS names curves by regular expressions, and is silent about those that match nothing."""
    (event,) = shown.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = [chart for category in layout.category for chart in category.chart]
    assert charts
    for chart in charts:
        patterns = list(chart.multiline.tag)
        for series in chart.margin.series:
            patterns += [re.escape(tag) for tag in (series.value, series.lower, series.upper)]
        assert patterns, chart.title
        for pattern in patterns:
            assert any(re.fullmatch(pattern, tag) for tag in shown.Tags()["scalars"]), f"{chart.title}: {pattern}"


def test_a_run_shows_acceptance_losses_scores_and_pictures(tmp_path):
    launch("fit", tmp_path)
    shown = board(tmp_path)

    collected = json.loads((tmp_path / "run/collected.json").read_text())
    expected = {
        "reward_of_all": collected["rewards"]["Ink"]["all"],
        "reward_of_accepted": collected["rewards"]["Ink"]["accepted"],
        "acceptance_rate": 0.5,
        "without_signal": 0,
        "not_finite": 0,
        "newly_drawn": 16,
    }
    for name, value in expected.items():
        assert scalars(shown, f"collect/{name}") == {0: pytest.approx(value, rel=1e-5)}, name
    sheets = [
        images(shown, f"collect/{name}") for name in ("acceptance", "accepted", "rejected", "accepted_and_rejected")
    ]
    assert [list(sheet) for sheet in sheets] == [[0], [0], [0], [0]]
    assert len({sheet[0] for sheet in sheets}) == 4, "accepted and rejected samples are not the same images"

    rows = [json.loads(line) for line in (tmp_path / "run/evaluation.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 5, 10]
    for name in ("Ink", "Diversity"):
        for tag, key in (
            (f"validate/{name}", "mean"),
            (f"interval/validate/{name}/low", "low"),
            (f"interval/validate/{name}/high", "high"),
        ):
            if name == "Diversity" and key != "mean":
                assert shown_as(tag) not in shown.Tags()["scalars"], "of all samples together there is no interval"
                continue
            wanted = {row["step"]: pytest.approx(row["metrics"][name][key], rel=1e-5) for row in rows}
            assert scalars(shown, tag) == wanted, tag

    assert list(scalars(shown, "train/loss")) == list(range(10))
    assert levels_of(shown) == [(0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)], "trained from the hand-off at 0.25 up"
    seen = [step for tag in shown.Tags()["scalars"] if LEVELS.fullmatch(tag) for step in scalars(shown, tag)]
    assert set(seen) == set(range(10))

    samples = images(shown, "validate/samples")
    assert list(samples) == [0, 5, 10]
    assert len(set(samples.values())) == 3, "the base's images are not those of the fine-tuned model"
    for name in ("base_and_now", "scores"):
        assert list(images(shown, f"validate/{name}")) == [5, 10]
    assert_page_shows_what_is_there(shown)


def test_the_page_begins_with_what_came_of_it_and_has_nothing_that_means_nothing(tmp_path):
    launch("fit", tmp_path)
    tags = {tag for kind in ("scalars", "images") for tag in board(tmp_path).Tags()[kind]}
    groups = sorted({tag.partition("/")[0] for tag in tags})
    assert groups == [
        "1_held_out",
        "2_acceptance",
        "3_loss_by_level",
        "4_speed",
        "5_training",
        "6_samples",
        "7_watched",
        "8_intervals",
    ], "nothing is wrong, so there is no group of alarms"
    first = sorted(tag for tag in tags if tag.startswith(groups[0]))
    assert first == [f"1_held_out/{name}" for name in ("1_scores", "2_base_and_now", "Diversity", "Ink")]


def test_speed_learning_rate_and_the_norm_of_the_gradient_are_shown(tmp_path):
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05, "weight_decay": 0.0}}
    cli = launch(
        "fit",
        tmp_path,
        {
            "model.optimizer": sgd,
            "trainer.log_every_n_steps": 2,
            "trainer.callbacks": [{"class_path": "tests.runs.Remember"}],
        },
    )
    shown = board(tmp_path)
    logged = [1, 3, 5, 7, 9]
    assert scalars(shown, "train/learning_rate") == dict.fromkeys(logged, pytest.approx(0.05))
    (remembered,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, Remember)]
    weights = [remembered.start, *remembered.steps]
    for step, norm in scalars(shown, "train/gradient_norm").items():
        moved = [weights[step + 1][name] - weights[step][name] for name in weights[step]]
        length = torch.cat([change.flatten() for change in moved]).double().norm()
        assert norm == pytest.approx(float(length) / 0.05, rel=1e-3), step
    for name in ("steps_per_second", "examples_per_second"):
        assert list(scalars(shown, f"speed/{name}")) == logged
    steps, examples = (list(scalars(shown, f"speed/{name}_per_second").values()) for name in ("steps", "examples"))
    assert examples == pytest.approx([4 * rate for rate in steps], rel=1e-4)
    assert list(scalars(shown, "speed/drawn_samples_per_second")) == [0]
    assert list(scalars(shown, "speed/evaluated_samples_per_second")) == [0, 5, 10]


def test_runs_are_compared_by_a_few_settings_and_by_their_scores(tmp_path):
    launch("fit", tmp_path)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"tensors": 0}).Reload()
    found = [events.summary_metadata[tag].plugin_data.content for tag in events.PluginTagToContent("hparams")]
    begun = [plugin_data_pb2.HParamsPluginData.FromString(content) for content in found]
    (settings,) = [one.session_start_info.hparams for one in begun if one.HasField("session_start_info")]
    assert {name: value.number_value or value.string_value for name, value in settings.items()} == {
        "method": "pgraft@0.25",
        "acceptance": "TopK(k=2)",
        "learning_rate": 0.01,
        "max_steps": 10,
        "batch_size": 4,
        "handoff": 0.25,
        "seed": 3,
    }
    (compared,) = [one.experiment.metric_infos for one in begun if one.HasField("experiment")]
    assert {metric.name.tag for metric in compared} == {"1_held_out/Ink", "1_held_out/Diversity"}
    assert {metric.name.tag for metric in compared} <= {*board(tmp_path).Tags()["scalars"]}


def test_an_inversion_is_shown(tmp_path):
    corrections.launch("fit", tmp_path)
    shown = board(tmp_path)
    record = json.loads((tmp_path / "run/inverted.json").read_text())
    expected = {name: record[name] for name in ("converged", "evaluations_per_sample", "norm")}
    expected |= {f"round_trip_{name}": record["round_trip"][name] for name in ("median", "max")}
    assert len(expected) == 5
    for name, value in expected.items():
        assert scalars(shown, f"invert/{name}") == {0: pytest.approx(value, rel=1e-5)}, name
    for name in ("residual_median", "residual_max", "iterations_mean", "iterations_max", "eta_L_median"):
        wanted = {row["k"]: pytest.approx(row[name], rel=1e-5) for row in record["by_step"]}
        assert scalars(shown, f"invert_by_step/{name}") == wanted, name
    for name in ("steps", "noise"):
        assert list(images(shown, f"invert/{name}")) == [0]
    assert len(levels_of(shown)) > 1
    assert images(shown, "validate/samples").keys() >= {2, 4}
    assert_page_shows_what_is_there(shown)
