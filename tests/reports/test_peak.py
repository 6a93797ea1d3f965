"""The most memory held at a time: counted on tensors whose sizes are known, and added up by hand."""

import re
from pathlib import Path

import pytest
import torch

from graft_lightning.modules.graft import PGraft
from graft_lightning.reports.live import live_bytes
from graft_lightning.reports.memory import Memory
from graft_lightning.reports.peak import STARTED, Footing
from graft_lightning.reports.plan_memory import activations_of, peak_line, step_too_large
from graft_lightning.reports.resident import ResidentGrowth
from graft_lightning.reports.trial import fastest
from tests.fakes import TinyReference
from tests.runs import launch

MEGA = 2**20


def megabytes(count):
    return torch.zeros(count, MEGA // 4)


def kept_together():
    first, second = megabytes(3), megabytes(2)
    return first.sum() + second.sum()


def one_after_the_other():
    for count in (1, 3, 2):
        megabytes(count)


def in_place():
    x = megabytes(4)
    x += 1
    return x.view(-1)[5:], x.reshape(2, -1)


@pytest.mark.parametrize(("work", "expected"), [(kept_together, 5), (one_after_the_other, 3), (in_place, 4)])
def test_what_is_held_at_a_time(work, expected):
    assert live_bytes(work) == pytest.approx(expected * MEGA, abs=64)


def test_what_was_there_before_does_not_count():
    there = megabytes(8)
    assert live_bytes(lambda: there.mul_(2).view(-1)) == 0
    assert live_bytes(lambda: there * 2) == 8 * MEGA


def test_a_backward_pass_holds_what_it_needs_and_the_gradient():
    weight = torch.nn.Parameter(megabytes(1))

    def work():
        (weight.exp() * 3).exp().sum().backward()  # both exponentials are kept, and the product while it is used
        weight.grad = None

    assert 3 * MEGA <= live_bytes(work) <= 5 * MEGA


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux says how large a process was")
def test_a_process_grows_by_what_it_touches_and_what_was_freed_before_does_not_count():
    megabytes(200)
    growth = ResidentGrowth()
    assert growth.most < 5 * MEGA
    kept = torch.ones(20 * MEGA // 4)
    assert 19 * MEGA < growth.most < 30 * MEGA
    torch.ones(60 * MEGA // 4)
    assert 79 * MEGA < growth.most < 90 * MEGA
    assert ResidentGrowth().most < 5 * MEGA
    assert kept.sum() == 20 * MEGA // 4


def test_a_system_that_does_not_say_leaves_what_tensors_need(monkeypatch, tmp_path):
    monkeypatch.setattr("graft_lightning.reports.resident.PROCESS", tmp_path / "absent")
    held = []
    fastest(lambda: megabytes(5) + 1, held)
    assert held == [10 * MEGA]


def footing(device="cpu", beside=50):
    memory = Memory("fp32", 1000, 100, 100, 200, 0, True, 300)
    return Footing(memory, beside, True, torch.device(device))


def test_everything_is_in_one_memory_on_a_cpu():
    least = footing().peak()
    assert least == STARTED + 2 * 1000, "while the file is read the network is there twice"
    assert footing().peak(step=1100) == STARTED + 1400 + 50 + 1000, "a step's gradients are counted once"
    assert footing(beside=5000).peak() == STARTED + 1400 + 5000


def test_a_gpu_holds_what_is_beside_in_turn():
    assert footing("cuda").peak() == 1450
    assert footing("cuda").peak(step=1100) == 2400


def test_a_step_that_exceeds_the_machine_is_not_tried(monkeypatch):
    monkeypatch.setattr(Footing, "there", STARTED + 1450 + 7000)
    assert step_too_large(footing(), 7000, 64) == ""
    said = step_too_large(footing(), 7001, 64)
    assert "on 64 examples does not fit: it keeps 7 KB" in said
    assert "data.batch_size" in said
    assert step_too_large(footing("cuda"), 7001, 64) == "", "a GPU's own allocator says so"
    assert step_too_large(None, 7001, 64) == ""


def test_what_was_not_tried_is_a_least(monkeypatch):
    monkeypatch.setattr(Footing, "there", STARTED + 1450 + 7000)
    assert "about" in peak_line(footing(), 7100, tried=True)[0]
    [line] = peak_line(footing(), 7101, tried=False)
    assert "at least" in line
    assert line.endswith("; it does not fit")
    assert peak_line(footing(), 7100, tried=True)[0].endswith("in a step")


def test_a_step_that_does_not_fit_is_said_instead_of_tried(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Footing, "there", STARTED + 2_000_000)
    launch("plan", tmp_path, {"data.batch_size": 256})
    printed = capsys.readouterr().out
    assert re.search(r"time\s+not measured: a training step on 256 examples does not fit: it keeps [\d.]+ MB", printed)
    assert re.search(r"activations\s+[\d.]+ MB in a step of 256 examples", printed)
    assert re.search(r"peak memory\s+at least 6\d\d MB of 602 MB: .* in a step; it does not fit", printed)


def test_networks_that_exceed_the_machine_are_not_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Footing, "there", STARTED)
    monkeypatch.setattr(PGraft, "configure_model", lambda self: pytest.fail("loaded"))
    launch("plan", tmp_path)
    printed = capsys.readouterr().out
    assert re.search(r"time\s+not measured: it does not fit: at least 60\d MB .*, and this machine has 600 MB", printed)
    assert re.search(r"peak memory\s+at least 60\d MB of 600 MB.*; it does not fit", printed)


def test_what_the_first_texts_load_is_no_part_of_a_step(monkeypatch):
    module = PGraft(handoff=0.25, reference=TinyReference())
    module.configure_model()
    expected = activations_of(module, ["left"], 4)
    loaded = []

    def encode(self, conditions, device, original=TinyReference.encode):
        if not loaded:
            loaded.append(torch.ones(10 * MEGA, requires_grad=True) ** 2)
        return original(self, conditions, device)

    monkeypatch.setattr(TinyReference, "encode", encode)
    assert activations_of(module, ["left"], 4) == expected
    assert loaded
