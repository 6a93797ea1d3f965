"""Steps that a plan tries: what is there between them is what a trainer leaves there."""

import pytest
import torch

from graft_lightning.modules import PGraft
from graft_lightning.reports import trial
from graft_lightning.reports.memory import size_of
from tests.fakes import CONDITIONS, TinyReference


@pytest.fixture
def module():
    module = PGraft(reference=TinyReference(output="v_prediction"), handoff=0.5)
    module.configure_model()
    return module


def trained(module):
    return [p for p in module.network.parameters() if p.requires_grad]


def gradients_at_each_loss(module, monkeypatch):
    """How many of the trained weights have gradients whenever a loss is asked for."""
    found, loss_of = [], module.loss_of

    def recorded(batch):
        found.append(sum(p.grad is not None for p in trained(module)))
        return loss_of(batch)

    monkeypatch.setattr(module, "loss_of", recorded)
    return found


def test_gradients_of_a_step_are_there_in_the_next_one_and_not_at_the_end(module, monkeypatch):
    found = gradients_at_each_loss(module, monkeypatch)
    trial.seconds_of_training(module, CONDITIONS, 4, [])
    everything = len(trained(module))
    assert found == [0, 0] + [everything] * (trial.REPEATS - 1)  # one by itself, then steps in a row
    assert all(p.grad is None for p in trained(module))


def test_a_step_by_itself_leaves_nothing(module):
    trial.training_step(module, CONDITIONS, 4)()
    assert all(p.grad is None for p in trained(module))


@pytest.mark.parametrize(("make", "copies"), [(torch.optim.AdamW, 2), (torch.optim.SGD, 0)])
def test_the_optimisers_states_stand_between_steps_and_are_counted_elsewhere(module, monkeypatch, make, copies):
    class Growth:
        most = 10**9

    monkeypatch.setattr(module, "optimizer", lambda parameters: make(parameters, lr=0.1))
    monkeypatch.setattr(trial, "ResidentGrowth", Growth)
    assert [s.shape for s in trial.optimiser_states(module)] == [
        p.shape for p in trained(module) for _ in range(copies)
    ]
    held: list[int] = []
    trial.seconds_of_training(module, CONDITIONS, 4, held)
    assert held == [10**9 - copies * size_of(trained(module))]
