"""The bench is run by hand; here that every part of it still runs, and that a bare loop does the same as ours."""

import json
import math

import pytest
import torch

from graft_lightning.domains.digits import DigitReference
from graft_lightning.processes.samplers import DDPM
from graft_lightning.processes.schedules import Cosine, RectifiedFlow, Trigonometric
from tests import bench
from tests.benchmarks import pools, report
from tests.benchmarks.free import Case
from tests.benchmarks.loops import bare_sampling, bare_training, our_sampling
from tests.benchmarks.measure import Compared, of_pairs

TINY = {
    "v": Case(3, (1, 4, 4), "v_prediction", Cosine),
    "flow": Case(2, (3, 4, 4), "flow", RectifiedFlow),
    "mixed": Case(3, (6, 3), "v_prediction", Trigonometric, mixed=True),
}


def test_sampling_is_compared_with_a_bare_loop(monkeypatch):
    for name, value in (("REPEATS", 1), ("SAMPLES", 2), ("STEPS", 8)):
        monkeypatch.setattr(bench, name, value)
    share, bare = bench.sampling(DigitReference(sampler=DDPM(steps=8, clip_sample=1.0)))
    assert share > 0 < bare


def test_training_is_compared_step_by_step(monkeypatch, tmp_path):
    for name, value in (("REPEATS", 1), ("TRAINING_STEPS", 6)):
        monkeypatch.setattr(bench, name, value)
    reference = DigitReference(sampler=DDPM(steps=8, clip_sample=1.0), network={"width": 32, "depth": 1})
    step, once, reading, noising = bench.training(reference, bench.filled_pool(tmp_path, reference), tmp_path)
    assert step.ours > 0 < step.bare
    assert once > 0
    assert 0 < reading + noising < step.ours


def test_medians_of_pairs():
    assert of_pairs([(0.002, 0.001), (0.008, 0.002), (0.003, 0.003)]) == Compared(3.0, 2.0, 2.0)


@pytest.mark.parametrize("name", TINY)
def test_both_sides_sample_the_same_distribution(name):
    """Of the free network's own process: the deviation of x_0, within its standard error."""
    many = Case(4000, *[getattr(TINY[name], key) for key in ("shape", "output", "schedule", "mixed")])
    ours, bare = our_sampling(many, 6)(), bare_sampling(many, 6)()
    ours = ours["positions"] if many.mixed else ours
    deviations = [float(x[:, :3].double().std()) for x in (ours, bare)]  # what is no padding
    error = 1 / math.sqrt(2 * ours[:, :3].numel())
    assert deviations[0] == pytest.approx(deviations[1], rel=6 * error)


@pytest.mark.parametrize("name", TINY)
def test_a_bare_step_trains(name):
    torch.manual_seed(0)
    bare_training(TINY[name], 2)()


def test_the_free_networks_table(capsys):
    found = report.free_networks(TINY, steps=3, repeats=1)
    assert found.keys() == TINY.keys()
    for row in found.values():
        for stage in ("sampling", "training"):
            assert row[stage]["ours"] > 0 < row[stage]["bare"]
        assert row["training"]["above"] == pytest.approx(
            row["training"]["ours"] - row["training"]["lightning"], abs=1e-3
        )
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed if line.startswith("  ")][-3:] == list(TINY)


def test_pools_are_read_and_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "READS", 2)
    assert all(value > 0 for value in report.pool_reads({"flow": TINY["flow"]}).values())
    assert 0.3 < pools.overlap(tmp_path / "overlap", 4, 0.02) <= 2
    monkeypatch.setattr(
        pools, "DigitReference", lambda sampler: DigitReference(None, DDPM(2), network={"width": 32, "depth": 1})
    )
    assert pools.efficiency(tmp_path, 1) > 0


def test_parts_are_chosen_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "PARTS", {"one": ("One", lambda: {"a": 1.5}), "two": ("Two", dict)})
    bench.main([f"--out={tmp_path}/deep/bench.json", "--only", "one"])
    written = json.loads((tmp_path / "deep/bench.json").read_text())
    assert written["one"] == {"a": 1.5}
    assert {"date", "machine", "torch"} <= written.keys()
    assert "two" not in written
    assert "One" in capsys.readouterr().out
