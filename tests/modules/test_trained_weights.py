"""What is trained, and what changes beside it, can be put back."""

import torch
from torch import nn

from graft_lightning.callbacks import KeepBest
from graft_lightning.modules.graft import Graft
from graft_lightning.modules.trained_weights import beside_trained
from graft_lightning.rejection.reference import LoRA, open_views
from tests.fakes import CONDITIONS
from tests.rejection.test_reference import Remembering, T, X


class Trainer:
    """As `KeepBest` sees one while it copies the weights."""

    class state:
        fn = "fit"


def opened(**settings):
    module = Graft(reference=Remembering(), **settings)
    module.configure_model()
    return module


def trained_further(module):
    """One forward pass in training, and other weights."""
    module.train()
    module.views.trainable(X, T, module.reference.encode(CONDITIONS * 2, "cpu"))
    with torch.no_grad():
        module.network.second.bias += 1


def test_the_base_comes_back_with_its_running_means():
    module = opened()
    trained_further(module)
    original = module.views.original.state_dict()
    assert any(not torch.equal(value, original[name]) for name, value in module.network.named_buffers())
    module.restore_base()
    assert all(torch.equal(value, original[name]) for name, value in module.network.state_dict().items())


def test_the_weights_of_the_best_evaluation_come_back_with_theirs(tmp_path, monkeypatch):
    module, keep = opened(), KeepBest()
    trained_further(module)
    best = {name: value.clone() for name, value in module.state_dict().items()}
    monkeypatch.setattr(KeepBest, "applies", lambda self, module: True)
    keep.on_validation_batch_start(Trainer(), module, None, 0)
    keep.kept = keep._seen
    trained_further(module)
    now = module.state_dict()
    assert not torch.equal(now["network.dropout.running_mean"], best["network.dropout.running_mean"])
    keep.put_back(module)
    assert all(torch.equal(value, best[name]) for name, value in module.state_dict().items())


def test_adapters_have_no_buffers_beside_them():
    assert len(beside_trained(opened())) == 5
    assert beside_trained(opened(lora=LoRA(rank=2, target_modules=["second"]))) == []


class Masked(nn.Module):
    """An attention's mask is a buffer, and no part of what training changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.ones(2, 2).tril())


def test_under_adapters_parts_with_running_means_are_evaluated_and_others_are_trained():
    reference = Remembering()
    network = reference.build()
    network.attention, network.normed = Masked(), nn.BatchNorm1d(2)
    network.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))
    views = open_views(reference, network, LoRA(rank=2, target_modules=["second"]))
    views.network.train()
    views.trainable(X, T, reference.encode(CONDITIONS * 2, "cpu"))
    parts = dict(views.network.named_modules())
    assert parts["attention"].training
    assert not parts["normed"].training
    assert not parts["spectral.parametrizations.weight.0"].training
