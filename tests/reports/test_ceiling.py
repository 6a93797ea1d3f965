import json
import math

import pytest

from graft_lightning.reports.ceiling import ALL, ceilings


def collected(folder, seed, acceptance, accepted, reward="Ink", drawn=0, **settings):
    folder.mkdir(parents=True)
    record = {
        "seed": seed,
        "acceptance": acceptance,
        "acceptance_settings": settings,
        "reward": reward,
        "newly_drawn": drawn,
        "rewards": {"Ink": {"all": 0.1 * seed, "accepted": accepted}, "Judge": {"all": 0.5, "accepted": 0.6}},
    }
    (folder / "collected.json").write_text(json.dumps(record))


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
