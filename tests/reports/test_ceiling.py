import json
import math
from pathlib import Path

import pytest

from graft_lightning.reports.ceiling import ALL, ceilings, reached
from graft_lightning.reports.comparison import Run


def collected(folder, seed, acceptance, accepted, reward="Ink", drawn=0, pool=None, **settings):
    folder.mkdir(parents=True)
    record = {
        "seed": seed,
        "acceptance": acceptance,
        "acceptance_settings": settings,
        "reward": reward,
        "newly_drawn": drawn,
        "rewards": {"Ink": {"all": 0.1 * seed, "accepted": accepted}, "Judge": {"all": 0.5, "accepted": 0.6}},
    }
    if pool is not None:
        record |= {"pool": str(pool), "conditions": 8, "draws": 4}
        record["rewards"]["Ink"]["all"] = accepted - 0.2
    (folder / "collected.json").write_text(json.dumps(record))


def test_two_pools_of_one_seed_have_rows_of_their_own(tmp_path, monkeypatch):
    """As of a stochastic sampler and of a deterministic one, which are other distributions: neither is the other."""
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        chain = Path("runs") / f"seed-{seed}"
        collected(chain / "graft", seed, "TopK", 0.4 + 0.1 * seed, pool=chain / "pool", k=8)
        collected(chain / "pgraft", seed, "TopK", 0.4 + 0.1 * seed, pool=chain / "pool", k=8)
        collected(chain / "ode/graft", seed, "TopK", 0.7 + 0.1 * seed, pool=chain / "ode/pool", k=8)
        collected(chain / "shared", seed, "TopK", 0.9, pool=tmp_path / "shared", k=8)
    found, drawn = ceilings([Path("runs")], "seed-")
    assert drawn == 5 * 32
    means = {row.removeprefix("one_round_ceiling: "): figures["Ink"]["mean"] for row, figures in found.items()}
    rule, of_all = "TopK(k=8) of Ink", "all samples"
    assert means == pytest.approx(
        {
            f"{of_all}, in pool": 0.25,
            f"{rule}, in pool": 0.45,
            f"{of_all}, in ode/pool": 0.55,
            f"{rule}, in ode/pool": 0.75,
            f"{of_all}, in {tmp_path}/shared": 0.7,
            f"{rule}, in {tmp_path}/shared": 0.9,
        }
    )
    assert found[f"one_round_ceiling: {rule}, in ode/pool"]["Ink"]["n"] == 2


@pytest.mark.parametrize("prefix", ["", "seed-"])
def test_pools_of_records_that_have_moved_are_named_within_their_chain(tmp_path, prefix):
    """So seeds come together, also where the runs themselves are no longer there."""
    for seed in (0, 1):
        chain, then = tmp_path / f"seed-{seed}", Path("runs/compare") / f"seed-{seed}"
        collected(chain / "graft", seed, "TopK", 0.4 + 0.1 * seed, pool=then / "pool", k=8)
        collected(chain / "raft", seed, "TopK", 0.4 + 0.1 * seed, pool=then / "raft/pool", k=8)
    found, drawn = ceilings([tmp_path], prefix)
    assert drawn == 4 * 32
    assert {row.rpartition(", ")[2]: of["Ink"]["n"] for row, of in found.items()} == {"in pool": 2, "in raft/pool": 2}


def test_runs_that_read_more_and_less_of_one_pool_are_told_apart(tmp_path):
    """The best of the first two draws and the best of all four are two rules of one name."""
    for draws, accepted in ((2, 0.5), (4, 0.8)):
        run = tmp_path / f"m-{draws}"
        collected(run, 0, "TopK", accepted, pool=tmp_path / "pool")
        record = json.loads((run / "collected.json").read_text()) | {"draws": draws}
        (run / "collected.json").write_text(json.dumps(record))
    found, drawn = ceilings([tmp_path])
    rule = "one_round_ceiling: TopK of Ink"
    assert [found[f"{rule}, {draws} draws"]["Ink"]["mean"] for draws in (2, 4)] == [0.5, 0.8]
    assert drawn == 32


def test_one_pool_a_seed_needs_no_name(tmp_path):
    for seed in (0, 1):
        collected(tmp_path / f"a-{seed}", seed, "TopK", 0.4 + 0.2 * seed, pool=tmp_path / f"pool-{seed}")
    record = json.loads((tmp_path / "a-1/collected.json").read_text())
    (tmp_path / "b").mkdir()
    (tmp_path / "b/collected.json").write_text(json.dumps(record))
    found, drawn = ceilings([tmp_path])
    assert list(found) == [ALL, "one_round_ceiling: TopK of Ink"]
    assert found["one_round_ceiling: TopK of Ink"]["Ink"]["mean"] == pytest.approx(0.5)
    assert drawn == 2 * 32


def test_runs_of_one_seed_count_once_and_intervals_are_over_seeds(tmp_path):
    for seed in (1, 2):
        for run in ("graft", "pgraft"):
            drawn = 64 if run == "graft" else 0
            collected(tmp_path / f"seed-{seed}" / run, seed, "TopK", 0.4 + 0.2 * seed, drawn=drawn)
        collected(tmp_path / f"seed-{seed}" / "judged", seed, "TopK", 0.0, reward="Judge", k=4)
        collected(tmp_path / f"seed-{seed}" / "more", seed, "TopK", 1.0, reward="Judge", k=16)
    found, drawn = ceilings([tmp_path], "seed-")
    assert drawn == 128
    rules = ["TopK of Ink", "TopK(k=4) of Judge", "TopK(k=16) of Judge"]
    assert list(found) == [ALL, *(f"one_round_ceiling: {rule}" for rule in rules)]
    half = 12.706205 * 0.1  # Student's t for two values, and their standard error
    expected = {"mean": 0.7, "low": 0.7 - half, "high": 0.7 + half, "n": 2}
    assert found["one_round_ceiling: TopK of Ink"]["Ink"] == pytest.approx(expected)
    assert found["one_round_ceiling: TopK(k=4) of Judge"]["Ink"]["mean"] == 0
    assert found[ALL]["Ink"]["mean"] == pytest.approx(0.15)


def test_other_chains_are_left_out_and_one_seed_has_no_interval(tmp_path):
    collected(tmp_path / "seed-0" / "graft", 0, "TopK", 0.4)
    collected(tmp_path / "other" / "graft", 1, "TopK", 0.9)
    figure = ceilings([tmp_path], "seed-")[0]["one_round_ceiling: TopK of Ink"]["Ink"]
    assert (figure["mean"], figure["n"]) == (0.4, 1)
    assert math.isnan(figure["low"])
    assert ceilings([tmp_path], "absent") == ({}, 0)


def test_a_shared_pool_is_counted_once_and_rules_of_another_fit_not_at_all(tmp_path):
    """Also where another command has filled it, so that no run has drawn anything."""
    for name, pool in (("graft", "pool"), ("pgraft", "pool"), ("other", "second"), ("foreign", "third")):
        run = tmp_path / "seed-0" / name
        collected(run, 0, "TopK", 0.4)
        record = json.loads((run / "collected.json").read_text())
        record |= {"pool": pool, "conditions": 8, "draws": 4, "run": name}
        (run / "collected.json").write_text(json.dumps(record))
        (run / "run.json").write_text(json.dumps({"run": "another" if name == "foreign" else name}))
    assert ceilings([tmp_path])[1] == 2 * 32
    assert ceilings([tmp_path / "seed-0/graft"])[1] == 32, "also of a run's own folder"


def run_of(folder, method, seed, ink, step=10, reward="Ink"):
    return Run(folder, method, seed, "test", step, {reward: ink}, {})


def test_the_share_of_the_ceiling_is_the_gain_over_what_selection_gains_in_the_pool(tmp_path):
    """Two seeds: .1 of .4 and .3 of .4; the base of the same chain, or of the same run, counts."""
    runs = []
    for seed, gain in ((0, 0.1), (1, 0.3)):
        chain = tmp_path / f"seed-{seed}"
        collected(chain / "graft", seed, "TopK", 0.4 + 0.1 * seed)
        collected(chain / "blind", seed, "RandomK", 0.1 * seed + 0.01)
        for name, kl in (("graft", 1.1), ("blind", 0.0)):
            record = json.loads((chain / name / "collected.json").read_text()) | {"implied": {"kl": kl}}
            (chain / name / "collected.json").write_text(json.dumps(record))
        runs += [run_of(chain / "base", "base", seed, 0.2, 0), run_of(chain / "blind", "unselected", seed, 0.3)]
        runs += [run_of(chain / "graft", "graft", seed, 0.9, 5), run_of(chain / "graft", "graft", seed, 0.2 + gain)]
        runs.append(run_of(tmp_path / "elsewhere", "base", seed, 0.7, 0))
    found = reached(runs, "test")
    assert list(found) == ["graft"], "a rule that does not look at the reward has no ceiling"
    assert {name: figure["mean"] for name, figure in found["graft"].items()} == pytest.approx(
        {"gain": 0.2, "to gain": 0.4, "share": 0.5}
    )
    assert (found["graft"]["share"]["n"], reached(runs, "validate")) == (2, {})
    own = [*runs, *(run_of(tmp_path / f"seed-{seed}/graft", "base", seed, 0.0, 0) for seed in (0, 1))]
    assert reached(own, "test")["graft"]["gain"]["mean"] == pytest.approx(0.4)


def test_conditions_that_accept_nothing_are_not_in_what_there_was_to_gain(tmp_path):
    """They lie above those that do: all draws have .6, the accepted .5, of conditions that had .3."""
    collected(tmp_path / "a", 0, "TopK", 0.5)
    record = json.loads((tmp_path / "a/collected.json").read_text())
    record |= {"implied": {"kl": 1.0}, "rewards_before": {"Ink": 0.3, "Judge": 0.5}}
    record["rewards"]["Ink"]["all"] = 0.6
    (tmp_path / "a/collected.json").write_text(json.dumps(record))
    runs = [run_of(tmp_path / "base", "base", 0, 0.2, 0), run_of(tmp_path / "a", "graft", 0, 0.3)]
    found = {name: figure["mean"] for name, figure in reached(runs, "test")["graft"].items()}
    assert found == pytest.approx({"gain": 0.1, "to gain": 0.2, "share": 0.5})


def test_a_setting_with_a_base_of_its_own_is_held_against_that(tmp_path):
    runs = [run_of(tmp_path / "base", "base", 0, 0.2, 0), run_of(tmp_path / "eta-base", "eta 0: base", 0, 0.5, 0)]
    for name, method, ink in (("a", "eta 0: graft", 0.6), ("b", "stable: graft", 0.6)):
        collected(tmp_path / name, 0, "TopK", 0.8)
        record = json.loads((tmp_path / name / "collected.json").read_text()) | {"implied": {"kl": 1.0}}
        (tmp_path / name / "collected.json").write_text(json.dumps(record))
        runs.append(run_of(tmp_path / name, method, 0, ink))
    found = {method: row["gain"]["mean"] for method, row in reached(runs, "test").items()}
    assert found == pytest.approx({"eta 0: graft": 0.1, "stable: graft": 0.4})


def test_a_reward_that_was_not_measured_and_a_pool_with_nothing_to_gain_have_no_share(tmp_path):
    collected(tmp_path / "a", 0, "TopK", 0.0)
    record = json.loads((tmp_path / "a/collected.json").read_text()) | {"implied": {"kl": 1.0}}
    (tmp_path / "a/collected.json").write_text(json.dumps(record))
    base = run_of(tmp_path / "b", "base", 0, 0.1, 0)
    assert math.isnan(reached([base, run_of(tmp_path / "a", "graft", 0, 0.3)], "test")["graft"]["share"]["mean"])
    other = [run_of(tmp_path / "b", "base", 0, 0.1, 0, "Judge"), run_of(tmp_path / "a", "graft", 0, 0.3, 9, "Judge")]
    assert reached(other, "test") == {}
    assert reached([run_of(tmp_path / "a", "graft", 0, 0.3)], "test") == {}, "without a base"


def test_a_pool_of_another_kind_without_a_base_has_no_share(tmp_path):
    """As of a deterministic sampler beside the base of a stochastic one."""
    runs = [run_of(tmp_path / "base", "base", 0, 0.2, 0)]
    for name, method, pool in (("a", "graft", "pool"), ("b", "pgraft", "pool"), ("c", "eta 0: graft", "other")):
        collected(tmp_path / name, 0, "TopK", 0.8, pool=pool)
        record = json.loads((tmp_path / name / "collected.json").read_text()) | {"implied": {"kl": 1.0}}
        (tmp_path / name / "collected.json").write_text(json.dumps(record))
        runs.append(run_of(tmp_path / name, method, 0, 0.6))
    assert list(reached(runs, "test")) == ["graft", "pgraft"]
    runs.append(run_of(tmp_path / "d", "eta 0: base", 0, 0.1, 0))
    assert reached(runs, "test")["eta 0: graft"]["gain"]["mean"] == pytest.approx(0.5)
