"""Runs of several rounds say what each has spent of divergence; a report shows it."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from graft_lightning.callbacks.round_kl import RoundKL
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM
from graft_lightning.processes.schedules import RectifiedFlow
from graft_lightning.rejection.acceptance import ClassicalRejection, SoftAcceptance, Threshold
from graft_lightning.rejection.selection import select
from graft_lightning.reports.round_kl import round_kl_section
from graft_lightning.runs import ROUNDS, append_record, read_records
from tests.runs import launch


def rounds_of(folder):
    return {r["round"]: r for r in read_records(folder, ROUNDS)}


def test_each_of_two_rounds_is_measured(tmp_path, capfd):
    changes = {"collect.rounds": 2, "trainer.max_steps": 20, "model.handoff": 0.0, "collect.draws": 8}
    launch("fit", tmp_path, changes)
    found = rounds_of(tmp_path / "run")
    assert {number: record["step"] for number, record in found.items()} == {0: 5, 1: 20}
    for number, name in ((0, "collected.json"), (1, "collected-1.json")):
        spent = found[number]["spent"]
        assert spent["kl_asked"] == json.loads((tmp_path / "run" / name).read_text())["implied"]["kl"]
        assert spent["low"] < spent["kl_taken_up"] < spent["high"]
    assert found[1]["spent"]["kl_taken_up"] > 0, "15 steps on 8 samples follow these"
    assert "nats asked for by the rule" in capfd.readouterr().err
    lines, record = round_kl_section([tmp_path])
    assert [row["round"] for row in record["round_kl"]] == [0, 1, "all"]
    assert f"| graft | 1 | {found[1]['spent']['kl_asked']:.2f} | {found[1]['spent']['kl_taken_up']:.2f} |" in lines


class Rises(RoundKL):
    """Of every sample a rise that is written in its x_0."""

    def _bounds(self, module, denoiser):
        return self._known[0] * (denoiser == "after")


def taken_up(folder, rewards, rule, rises, process, **module):
    """What a round is said to take up, where every draw's rise is known."""
    rewards = torch.tensor(rewards)
    seeds = torch.arange(rewards.numel()).reshape(rewards.shape)
    selection = select(rewards, torch.full(rewards.shape, -1), seeds, rule)
    conditions = torch.arange(len(rewards)).repeat_interleave(rewards.shape[1])
    opened = SimpleNamespace(
        read=lambda chosen, names: {"condition": conditions[chosen], "x_0": torch.tensor(rises).flatten()[chosen]},
        conditions=[str(i) for i in range(len(rewards))],
        index=0,
    )
    tuned = SimpleNamespace(
        reference=SimpleNamespace(process=process, sampler=DDIM(10)),
        loss_range=lambda: module.get("range", (0.0, 0.0, None)),
        sampling_denoiser=lambda: "after",
        method="graft",
        run=None,
    )
    measured = Rises()
    measured.begin(tuned, opened, selection, "before")
    measured.end(SimpleNamespace(is_global_zero=True, global_step=1, loggers=[]), tuned, folder)
    return [record["spent"] for record in read_records(folder, ROUNDS)]


FLOW = Process(GaussianPath(RectifiedFlow()))


def test_conditions_count_alike_and_members_by_weight(tmp_path):
    """One draw of the first condition rises by 1, those of the second by 0: 1/2, however many there are."""
    rewards = [[1.0, *[-1.0] * 99], [*[1.0] * 99, -1.0]]
    rises = [[1.0] * 100, [0.0] * 100]
    (hard,) = taken_up(tmp_path / "hard", rewards, Threshold(0.0), rises, FLOW)
    assert hard["kl_taken_up"] == pytest.approx(0.5)
    # e^0 : e^-2 within each of two conditions; what is hardly accepted rises by 1
    rewards, rises = ([[low] * 40 + [high] * 40] * 2 for low, high in ((0.0, -2.0), (0.0, 1.0)))
    rule = SoftAcceptance(ClassicalRejection(1.0, 0.0))
    (soft,) = taken_up(tmp_path / "soft", rewards, rule, rises, FLOW)
    assert soft["kl_taken_up"] == pytest.approx(1 / (1 + math.exp(2.0)), abs=1 / 64)


def test_nothing_is_said_where_there_are_no_levels_to_sum_over(tmp_path):
    assert taken_up(tmp_path, [[1.0, 0.0]], Threshold(0.5), [[0.0, 0.0]], FLOW, range=(0.95, 0.95, None)) == []


def test_one_round_spends_nothing_on_it(tmp_path):
    launch("fit", tmp_path)
    assert rounds_of(tmp_path / "run") == {}
    assert round_kl_section([tmp_path]) == ([], {})


def test_a_run_that_is_cut_measures_the_same(tmp_path):
    changes = {"collect.rounds": 2, "trainer.limit_val_batches": 0}
    launch("fit", tmp_path / "whole", {**changes, "trainer.max_steps": 15})
    launch("fit", tmp_path / "cut", {**changes, "trainer.max_steps": 10})
    launch("fit", tmp_path / "cut", {**changes, "trainer.max_steps": 15}, "--ckpt_path=last")
    (folder,) = [f for f in (tmp_path / "cut").glob("run*") if 15 in {r["step"] for r in rounds_of(f).values()}]
    whole, cut = rounds_of(tmp_path / "whole/run")[1]["spent"], rounds_of(folder)[1]["spent"]
    assert cut == pytest.approx(whole, rel=1e-4, abs=1e-6)


def test_of_a_round_that_was_measured_twice_the_last_counts(tmp_path):
    for value in (1.0, 2.0):
        record = {"stage": "fit", "method": "graft", "step": 5, "round": 0}
        append_record(tmp_path / "a", ROUNDS, {**record, "spent": {"kl_asked": 0.5, "kl_taken_up": value}})
    row, total = round_kl_section([tmp_path])[1]["round_kl"]
    assert row["kl_taken_up"]["mean"] == total["kl_taken_up"]["mean"] == 2.0
