"""Two processes, one of which fails: both end within seconds, and what is told is the failure itself."""

import time

import pytest

from graft_lightning.callbacks.evaluate import Evaluate
from graft_lightning.modules.graft import PGraft
from graft_lightning.rejection.collection import Collection
from graft_lightning.types import SettingsError
from tests.faults.counting import count
from tests.runs import launch

TWO = {"trainer.devices": 2, "trainer.strategy": "ddp_fork", "data.batch_size": 2}
PHASES = {
    "sampling": (Collection, "draw"),
    "scoring": (Collection, "_score"),
    "training": (PGraft, "training_step"),
    "validating": (PGraft, "validation_step"),
    "recording": (Evaluate, "_finish"),
}


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("phase", PHASES)
def test_a_failure_reaches_the_other(tmp_path, monkeypatch, capfd, phase, rank):
    import torch.distributed as dist

    where, name = PHASES[phase]
    original = getattr(where, name)

    def fail(self, *arguments, **options):
        if dist.is_initialized() and dist.get_rank() == rank:
            raise SettingsError(f"the {phase} has failed")
        return original(self, *arguments, **options)

    monkeypatch.setattr(where, name, fail)
    start = time.monotonic()
    with pytest.raises(SystemExit) as leave:
        launch("fit", tmp_path, TWO)
    assert time.monotonic() - start < 60
    said = capfd.readouterr().err
    assert leave.value.code == 2, said
    assert f"error: the {phase} has failed" in said
    assert f"process {rank} of 2 failed: the {phase} has failed" in said
    assert "Traceback" not in said
    count("failing processes", "told to the other")
