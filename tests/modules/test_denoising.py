from types import SimpleNamespace

import pytest
import torch

from graft_lightning.modules import PGraft, Pretrain
from graft_lightning.processes.noise import Noise
from graft_lightning.types import Batch, Draws, SettingsError
from tests.fakes import TinyReference


@pytest.fixture
def module():
    """A built module with a trainer that logs nowhere."""
    module = PGraft(reference=TinyReference(), handoff=0.25)
    module.configure_model()
    module.log = lambda name, value, **rest: logged.append((name, value))
    logged: list = []
    module.logged = logged
    module._trainer = SimpleNamespace(loggers=[], global_step=0)
    return module


def batch_of(weight: list[float]) -> Batch:
    count = len(weight)
    x = torch.randn(count, 2, generator=torch.Generator().manual_seed(1))
    return Batch(x, ["left", "right"] * (count // 2), torch.arange(count), torch.tensor(weight))


def test_the_loss_is_the_weighted_mean_of_the_objective_above_the_handoff(module):
    batch = batch_of([1.0, 0.5, 0.0, 1.0])
    total = module.training_step(batch, 0)
    reference, s = module.reference, module.handoff_level
    condition = reference.encode(batch.conditions, "cpu")
    loss = module.objective.loss(
        module.opened().trainable, reference.process, batch.x, condition, Noise(batch.seeds), s, s, None
    )
    assert (loss.t > s).all()
    torch.testing.assert_close(total, (loss.value * batch.weight).sum() / 4, rtol=0, atol=0)
    assert module.logged[0][0] == "train/loss"
    total.backward()
    assert all(p.grad is not None for p in module.network.parameters())
    assert all(p.grad is None for p in module.opened().original.parameters())


def test_an_example_has_its_noise_wherever_it_stands(module):
    batch = batch_of([1.0, 1.0])
    alone = [
        module.training_step(
            Batch(batch.x[i : i + 1], batch.conditions[i : i + 1], batch.seeds[i : i + 1], batch.weight[i : i + 1]), 0
        )
        for i in range(2)
    ]
    torch.testing.assert_close(module.training_step(batch, 0), torch.stack(alone).mean(), rtol=1e-6, atol=1e-7)


def test_samples_belong_to_their_seeds(module):
    draws = Draws(["left", "right", "left"], torch.tensor([0, 0, 1]), torch.tensor([4, 5, 6]))
    with torch.no_grad():
        together = module.sample(draws)
        for i in range(3):
            one = Draws(draws.conditions[i : i + 1], draws.draw[i : i + 1], draws.seeds[i : i + 1])
            torch.testing.assert_close(module.sample(one), together[i : i + 1], rtol=1e-5, atol=1e-6)


def test_pretraining_starts_from_scratch_or_goes_on():
    class Marked(TinyReference):
        def build(self, pretrained=True):
            network = super().build(pretrained)
            network.pretrained = pretrained
            return network

    for from_scratch in (True, False):
        module = Pretrain(reference=Marked(), from_scratch=from_scratch)
        module.configure_model()
        assert module.network.pretrained is not from_scratch
        assert all(p.requires_grad for p in module.network.parameters())
        assert module.opened().original is module.network
        assert module.loss_range()[0] == 0.0


class Frozen(TinyReference):
    def build(self, pretrained=True):
        return super().build(pretrained).requires_grad_(False)


def test_a_network_that_has_nothing_to_train_is_refused_by_name():
    module = PGraft(reference=Frozen())
    module.configure_model()
    told = r"Frozen\.build returned a network \(TinyNetwork\) of whose weights none is trained"
    with pytest.raises(SettingsError, match=told):
        module.configure_optimizers()
