"""The map of hand-offs: gains in the base's own deviations, and how diagnose's word compares with what was trained."""

import json
import math

import pytest

from graft_lightning.reports.comparison import read_runs
from graft_lightning.reports.document import write_report
from graft_lightning.reports.handoffs import handoff_section
from graft_lightning.statistics import rank_correlation
from tests.reports.test_comparison import write_run

LEVELS = {"pgraft@0.25": 0.25, "pgraft@0.5": 0.5}
WANTED = {
    "base": "base",
    "than": "graft",
    "methods": LEVELS,
    "factors": {"reward": {"pair": "reward"}, "states": {"noised": "reward"}, "never run": {"no": "reward"}},
    "against": {"noised": "pair: graft"},
    "diagnosed": {"pair": "said"},
}


def diagnosis(folder, recommended, attainable):
    folder.mkdir(parents=True)
    levels = [{"fraction": n, "attainable": {"mean": mean}} for n, mean in attainable.items() if n]
    found = {"reward": {"accepted": attainable[0.0]}, "levels": levels, "recommended": {"N_I/N": recommended}}
    (folder / "diagnose.json").write_text(json.dumps(found))


@pytest.fixture
def folders(tmp_path):
    """Three seeds: at .25 N the hand-off gains .2, .3 and .1, of a base with a deviation of .1 within conditions."""
    for seed, gain in enumerate((0.2, 0.3, 0.1)):
        chain = tmp_path / f"seed-{seed}"
        # means of conditions lie far apart, which selection cannot use and the unit must not hold
        write_run(chain / "base", "base", seed, [[0.1, 0.2, 0.3], [5.1, 5.2, 5.3]], step=0)
        write_run(chain / "graft", "pair: graft", seed, [[1.0], [1.0]])
        write_run(chain / "early", "pair: pgraft@0.25", seed, [[1.0 + gain], [1.0 + gain]])
        write_run(chain / "late", "pair: pgraft@0.5", seed, [[0.7], [0.7]])
        write_run(chain / "noised", "noised: pgraft@0.25", seed, [[0.9], [0.9]])
        diagnosis(chain / "said", 0.25, {0.0: 0.8, 0.25: 0.9, 0.5: 0.1})
    return tmp_path


def section(folders, out, wanted):
    return handoff_section(read_runs([folders]), [folders], wanted, "test", out)


def test_gains_are_in_deviations_of_the_base_within_conditions(folders, tmp_path, drawn):
    lines, record = section(folders, tmp_path, WANTED)
    gains = record["handoffs"]["gains"]
    half = 4.302653 * 1.0 / math.sqrt(3)
    early = gains["reward"]["pair"]["pgraft@0.25"]
    assert early == pytest.approx({"mean": 2.0, "low": 2.0 - half, "high": 2.0 + half, "n": 3}, abs=1e-5)
    assert gains["reward"]["pair"]["pgraft@0.5"]["mean"] == pytest.approx(-3.0)
    assert gains["states"]["noised"]["pgraft@0.25"]["mean"] == pytest.approx(-1.0)
    assert set(gains) == {"reward", "states"}
    assert "| reward | pair | +2.00 [-0.48, +4.48] | -3.00 [-3.00, -3.00] |" in lines
    assert "| states | noised | -1.00 [-1.00, -1.00] |  |" in lines
    assert (tmp_path / "handoffs.png").stat().st_size > 5000


def test_what_diagnose_had_said_is_ranked_against_what_was_trained(folders, tmp_path):
    _, record = section(folders, tmp_path, WANTED)
    foretold = record["handoffs"]["foretold"]
    assert [(row["seed"], row["recommended"], row["best"], row["ranks"]) for row in foretold["rows"]] == [
        (0, 0.25, 0.25, pytest.approx(1.0)),
        (1, 0.25, 0.25, pytest.approx(1.0)),
        (2, 0.25, 0.25, pytest.approx(1.0)),
    ]
    assert math.isnan(foretold["recommended and best"]["mean"])
    lines, _ = section(folders, tmp_path, WANTED)
    assert any("cannot be told, for one of them is always the same" in line for line in lines)
    assert "| pair | 0.25, 0.25, 0.25 | 0.25, 0.25, 0.25 | +1.00 [+1.00, +1.00] |" in lines


def test_a_level_without_a_reward_is_not_the_best(folders, tmp_path):
    write_run(folders / "seed-0/graft", "pair: graft", 0, [[math.nan], [math.nan]], step=20)
    _, record = section(folders, tmp_path, WANTED)
    assert [row["best"] for row in record["handoffs"]["foretold"]["rows"]] == [0.25, 0.25, 0.25]


def test_a_setting_that_lacks_a_level_is_not_ranked(folders, tmp_path):
    wanted = {**WANTED, "methods": {**LEVELS, "pgraft@0.75": 0.75}}
    _, record = section(folders, tmp_path, wanted)
    assert "foretold" not in record["handoffs"]


def test_a_report_holds_the_map_where_one_is_asked_for(folders, tmp_path):
    path = write_report([folders], tmp_path / "out", {"metrics": {"reward": "reward"}, "handoffs": WANTED})
    assert "## Where a hand-off pays" in path.read_text()
    assert json.loads((path.parent / "report.json").read_text())["handoffs"]["gains"]["reward"]["pair"]
    assert section(folders, tmp_path, None) == ([], {})
    assert section(folders, tmp_path, {**WANTED, "factors": {"never run": {"no": "reward"}}}) == ([], {})


def test_rank_correlation_in_closed_form():
    first, second = [1, 2, 3, 4, 5, 6], [1, 3, 2, 4, 6, 5]
    found = rank_correlation(first, second)
    rho = 1 - 6 * 4 / (6 * 35)
    half = 1.959964 * math.sqrt(1.06 / 3)
    assert found["mean"] == pytest.approx(rho)
    assert (found["low"], found["high"]) == pytest.approx(
        (math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)), abs=1e-6
    )
    assert rank_correlation([1, 2, 3, 4, math.nan], [10, 20, 30, 25, 0])["n"] == 4
    assert math.isnan(rank_correlation([1, 1, 1, 1], [1, 2, 3, 4])["mean"])
    assert math.isnan(rank_correlation([1, 2, 3], [3, 2, 1])["low"])
    assert rank_correlation([1, 2, 3, 4], [1, 2, 3, 4])["mean"] == pytest.approx(1.0)
    assert math.isnan(rank_correlation([], [])["mean"])
