"""Two processes, one of which fails: both end within seconds, and what is told is the failure itself."""

import time

import pytest
import torch.distributed as dist

from graft_lightning.callbacks.evaluate import Evaluate
from graft_lightning.modules.graft import PGraft
from graft_lightning.rejection import scoring
from graft_lightning.rejection.collection import Collection
from graft_lightning.types import SettingsError
from tests.cli.test_nodes import NODES, on_two_nodes, prepared
from tests.faults.counting import count
from tests.runs import launch
from tests.waiting import wait_for

FORKED = {"trainer.devices": 2, "trainer.strategy": "ddp_fork", "data.batch_size": 2}
PHASES = {
    "sampling": (Collection, "draw"),
    "scoring": (scoring, "_scores"),
    "training": (PGraft, "training_step"),
    "validating": (PGraft, "validation_step"),
    "recording": (Evaluate, "_finish"),
}
# Processes take this work as they come to it: one that is slow to start would find nothing left to fail in.
SHARED = ("sampling", "scoring")


@pytest.fixture(params=[0, 1])
def rank(request):
    """Of the process that fails."""
    return request.param


@pytest.fixture(params=PHASES)
def phase(request, rank, monkeypatch, tmp_path):
    """When it fails."""
    where, name = PHASES[request.param]
    original = getattr(where, name)
    begun = tmp_path / "failing"

    def fail(*arguments, **options):
        if dist.is_initialized() and dist.get_rank() == rank:
            begun.touch()
            raise SettingsError(f"the {request.param} has failed")
        if dist.is_initialized() and request.param in SHARED:
            wait_for(begun)
        return original(*arguments, **options)

    monkeypatch.setattr(where, name, fail)
    return request.param


@pytest.mark.slow
def test_a_failure_reaches_the_other_node(tmp_path, capfd, phase, rank):
    """Processes that somebody else has started, as on a cluster: each says what went wrong in the other."""
    prepared(tmp_path)
    start = time.monotonic()
    assert all(on_two_nodes(lambda _: launch("fit", tmp_path, NODES)))
    assert time.monotonic() - start < 60
    said = capfd.readouterr().err
    assert f"error: the {phase} has failed" in said
    assert f"error: process {rank} of 2 failed: the {phase} has failed" in said
    count("failing processes", "told to the other")


@pytest.mark.slow
def test_a_failure_ends_all_processes_of_a_command(tmp_path, capfd, phase, rank):
    """Processes that the command has forked end with the one that failed, and the command says what went wrong."""
    start = time.monotonic()
    with pytest.raises(SystemExit) as leave:
        launch("fit", tmp_path, FORKED)
    assert time.monotonic() - start < 60
    said = capfd.readouterr().err
    assert leave.value.code == 2, said
    assert said.count(f"error: process {rank} of 2 failed: the {phase} has failed") == 1
    assert said.count(f"error: the {phase} has failed") == 1
    assert said.rstrip().endswith(f"error: the {phase} has failed")  # whatever the process that was ended has said
    count("failing processes", "ended with the command")
