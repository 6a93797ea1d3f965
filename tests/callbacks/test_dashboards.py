"""What a run shows in TensorBoard: every tag of the dashboards, with the steps and values that its records hold."""

import json
import re

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from tests import corrections
from tests.runs import launch

LEVELS = re.compile(r"loss_by_level/t=(0\.[02468])T-(0\.[2468]|1\.0)T")


def board(folder):
    # Nothing is thinned out: by default ten images a tag are kept.
    return EventAccumulator(str(folder / "run"), size_guidance={"images": 0, "scalars": 0, "tensors": 0}).Reload()


def scalars(shown, tag):
    return {event.step: event.value for event in shown.Scalars(tag)}


def images(shown, tag):
    found = {event.step: event for event in shown.Images(tag)}
    assert all(event.encoded_image_string.startswith(b"\x89PNG") for event in found.values())
    return {step: event.encoded_image_string for step, event in found.items()}


def levels_of(shown):
    """The ranges of noise levels that a loss is shown of, as shares of T."""
    tags = [tag for tag in shown.Tags()["scalars"] if tag.startswith("loss_by_level/")]
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
    sheets = [images(shown, f"collect/{name}") for name in ("acceptance", "accepted", "rejected")]
    assert [list(sheet) for sheet in sheets] == [[0], [0], [0]]
    assert len({sheet[0] for sheet in sheets}) == 3, "accepted and rejected samples are not the same images"

    rows = [json.loads(line) for line in (tmp_path / "run/evaluation.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 5, 10]
    for name in ("Ink", "Diversity"):
        for tag, key in (
            (f"validate/{name}", "mean"),
            (f"interval/validate/{name}/low", "low"),
            (f"interval/validate/{name}/high", "high"),
        ):
            if name == "Diversity" and key != "mean":
                assert tag not in shown.Tags()["scalars"], "of all samples together there is no interval"
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
    assert list(images(shown, "validate/base_and_now")) == [5, 10]
    assert_page_shows_what_is_there(shown)


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
