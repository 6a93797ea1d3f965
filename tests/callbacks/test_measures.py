import lightning as L
import pytest
import torch

from graft_lightning.callbacks.measures import FlopsPerSample
from graft_lightning.domains.digits import DigitFlow
from graft_lightning.modules import Pretrain
from graft_lightning.processes.samplers import Euler
from graft_lightning.reports.operations import operations


@pytest.mark.parametrize("steps", [1, 3])
def test_operations_of_a_sample_have_attention_in_them(steps):
    """The kernel that a CPU chooses for attention is unknown to the counter; what a plan counts is the reference."""
    flow = DigitFlow(network={"width": 8, "depth": 2, "heads": 2}, sampler=Euler(steps))
    module = Pretrain(reference=flow)
    module.configure_model()
    with torch.no_grad():
        figure = FlopsPerSample(samples=4)(L.Trainer(logger=False), module)["gigaflops"]
    assert figure["mean"] == pytest.approx(steps * operations(flow) / 1e9, rel=1e-9)
