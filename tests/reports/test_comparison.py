import json
import math

import pytest

from graft_lightning.reports.comparison import compare, compare_over_conditions, curves, read_runs
from graft_lightning.reports.tables import written
from graft_lightning.statistics import best_of, interval, wilson

NAN = math.nan


def write_run(folder, method, seed, scores, step=10, stage="test", judge=None, metric="reward"):
    """An evaluation by hand: scores by condition and draw."""
    folder.mkdir(parents=True, exist_ok=True)
    every = {metric: scores, **({"judge": judge} if judge else {})}
    means = {name: sum(sum(row) / len(row) for row in rows) / len(rows) for name, rows in every.items()}
    figures = {name: {"mean": mean, "low": mean, "high": mean, "n": len(scores)} for name, mean in means.items()}
    record = {"stage": stage, "method": method, "step": step, "seed": seed, "metrics": figures, "scores": every}
    with open(folder / "evaluation.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")


@pytest.fixture
def folders(tmp_path):
    for seed, (base, graft) in enumerate([(0.2, 0.5), (0.3, 0.6), (0.4, 0.4)]):
        write_run(tmp_path / f"seed-{seed}/base", "base", seed, [[base, base + 0.1], [base, base - 0.1]], step=0)
        write_run(tmp_path / f"seed-{seed}/graft", "graft", seed, [[0.0, 0.0], [0.0, 0.0]], step=5)
        write_run(tmp_path / f"seed-{seed}/graft", "graft", seed, [[graft, graft], [graft, graft]])
    return tmp_path


def test_intervals_over_seeds_of_the_last_step(folders):
    table = compare(read_runs([folders]))
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert table["base"]["reward"] == pytest.approx({"mean": 0.3, "low": 0.3 - half, "high": 0.3 + half, "n": 3})
    assert table["graft"]["reward"]["mean"] == pytest.approx(0.5)
    assert table["graft"]["reward"]["n"] == 3


def test_with_few_seeds_intervals_are_over_conditions(tmp_path):
    write_run(tmp_path / "a", "graft", 0, [[0.1, 0.3], [0.6, 0.6], [0.4, 0.0]])
    figure = compare(read_runs([tmp_path]))["graft"]["reward"]
    half = 4.302653 * math.sqrt(sum((m - 1 / 3) ** 2 for m in (0.2, 0.6, 0.2)) / 2 / 3)
    assert figure == pytest.approx({"mean": 1 / 3, "low": 1 / 3 - half, "high": 1 / 3 + half, "n": 3})


def test_a_seed_without_a_score_is_no_seed_of_the_interval(tmp_path):
    """Two of three seeds are too few, whichever of them lacks the metric, and how."""
    tables = [[[0.1, 0.3], [0.6, 0.6], [0.4, 0.0]], [[0.2, 0.4], [0.5, 0.7], [0.1, 0.3]]]
    expected = interval([0.25, 0.6, 0.2])
    for case, third in enumerate(([[NAN, NAN]] * 3, None)):
        for seed, table in enumerate((third, *tables)):
            other = {"metric": "other"} if table is None else {}
            write_run(tmp_path / f"{case}/{seed}", "graft", seed, table or [[1.0], [2.0], [3.0]], **other)
        runs = read_runs([tmp_path / str(case)])
        assert compare(runs)["graft"]["reward"] == pytest.approx(expected)
        assert compare_over_conditions(runs)["graft"]["reward"] == pytest.approx(expected)


def test_shares_that_agree_between_seeds_have_a_width(tmp_path):
    for seed in range(4):
        write_run(tmp_path / str(seed), "graft", seed, [[1.0, 1.0], [1.0, 1.0]], judge=[[1.0, 0.0], [0.0, 1.0]])
    row = compare(read_runs([tmp_path]))["graft"]
    assert row["reward"] == wilson([1.0] * 4)
    assert row["judge"] == wilson([0.5] * 4)


def test_one_condition_has_its_interval_over_samples(tmp_path):
    for seed, draws in enumerate(([0.1, 0.3, 0.8], [0.5, 0.7, 0.2])):
        write_run(tmp_path / str(seed), "graft", seed, [draws], judge=[[1.0, 1.0, 1.0]])
    row = compare(read_runs([tmp_path]))["graft"]
    assert row["reward"] == interval([0.1, 0.3, 0.8, 0.5, 0.7, 0.2])
    assert row["judge"] == wilson([1.0] * 6)


def test_a_metric_of_the_whole_set_has_an_interval_over_seeds_or_none(tmp_path):
    for seed, value in enumerate((3.0, 5.0, 4.0)):
        write_run(tmp_path / str(seed), "graft", seed, [[0.5, 0.6]])
        file = tmp_path / str(seed) / "evaluation.jsonl"
        record = json.loads(file.read_text())
        record["metrics"]["FID"] = {"mean": value, "low": value, "high": value, "n": 2}  # as older runs wrote it
        file.write_text(json.dumps(record) + "\n")
        found = compare(read_runs([tmp_path]))["graft"]["FID"]
        assert found == pytest.approx(interval([3.0, 5.0, 4.0][: seed + 1]), nan_ok=True)


def test_both_intervals_hold_the_other_fixed(folders):
    """Seeds differ and conditions do not, or the other way round: only one of the two intervals is wide."""
    over_seeds, over = compare(read_runs([folders])), compare_over_conditions(read_runs([folders]), best_of_n=[2])
    assert over["base"]["reward"] == pytest.approx(interval([0.35, 0.25]))
    assert over["graft"]["reward"] == pytest.approx({"mean": 0.5, "low": 0.5, "high": 0.5, "n": 2})
    assert over_seeds["graft"]["reward"]["high"] > 0.7
    assert over["best_of_2"]["reward"] == pytest.approx(interval([0.4, 0.3]))


def test_best_of_n_is_chosen_by_reward_and_judged_by_all(tmp_path):
    scores, judge = [[0.1, 0.9, 0.5], [0.2, 0.4, 0.3]], [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    for seed in range(3):
        write_run(tmp_path / str(seed), "base", seed, scores, judge=judge)
    table = compare(read_runs([tmp_path]), best_of_n=(1, 2, 4))
    assert table["best_of_1"]["reward"]["mean"] == pytest.approx(table["base"]["reward"]["mean"])
    expected = sum(best_of(r, j, 2) for r, j in zip(scores, judge, strict=True)) / 2
    assert table["best_of_2"]["judge"]["mean"] == pytest.approx(expected)
    assert "best_of_4" not in table  # three draws do not give it


def test_best_of_n_of_a_saturated_reward_is_the_mean_of_the_held_out_metric(tmp_path):
    write_run(tmp_path / "a", "base", 0, [[1.0] * 4, [1.0] * 4], judge=[[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0]])
    row = compare(read_runs([tmp_path]), best_of_n=[4])["best_of_4"]
    assert row["judge"]["mean"] == pytest.approx((0.5 + 0.75) / 2)
    assert row["reward"]["mean"] == 1


def test_runs_of_another_stage_and_unfinished_lines_are_left_out(folders):
    write_run(folders / "seed-0/graft", "graft", 0, [[9.0]], stage="validate", step=20)
    with open(folders / "seed-0/graft/evaluation.jsonl", "a") as file:
        file.write('{"stage": "test", "meth')
    assert compare(read_runs([folders]))["graft"]["reward"]["mean"] == pytest.approx(0.5)


def test_draws_without_a_score_are_left_out(tmp_path):
    write_run(tmp_path / "a", "base", 0, [[0.2, math.nan], [0.4, 0.6], [math.nan, math.nan]])
    figure = compare(read_runs([tmp_path]))["base"]["reward"]
    assert (figure["mean"], figure["n"]) == (pytest.approx(0.35), 2)


def test_curves_over_steps(folders):
    points = curves(read_runs([folders]), "reward", "test")["graft"]
    assert [(step, round(figure["mean"], 6), figure["n"]) for step, figure in points] == [(5, 0.0, 3), (10, 0.5, 3)]


def test_folders_without_runs_are_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="has a run been evaluated"):
        read_runs([tmp_path])


def test_figures_as_text():
    assert written({"mean": 0.5, "low": 0.4, "high": 0.61, "n": 3}) == "0.500 [0.400, 0.610]"
    assert written({"mean": 0.5, "low": math.nan, "high": math.nan, "n": 1}) == "0.500"
    assert written({"mean": 0.5, "low": 0.5, "high": 0.5, "n": 5}) == "0.500"
    assert written({"mean": 1.53e-4, "low": 1.1e-4, "high": 1.96e-4, "n": 5}) == "0.00015 [0.00011, 0.0002]"
    assert written({"mean": 0.0, "low": -0.1, "high": 0.1, "n": 5}) == "0.000 [-0.100, 0.100]"


def test_the_same_base_in_several_runs_of_a_seed_counts_once(tmp_path):
    """A test scores the base in every run; as many values as runs would make intervals narrower than seeds allow."""
    for seed, base in enumerate((0.1, 0.3, 0.5)):
        for run in ("graft", "pgraft"):
            write_run(tmp_path / f"seed-{seed}/{run}", "base", seed, [[base], [base]], step=0)
            write_run(tmp_path / f"seed-{seed}/{run}", run, seed, [[0.5], [0.5]])
    found = compare(read_runs([tmp_path]))["base"]["reward"]
    half = 4.302653 * 0.2 / math.sqrt(3)
    assert found == pytest.approx({"mean": 0.3, "low": 0.3 - half, "high": 0.3 + half, "n": 3})
