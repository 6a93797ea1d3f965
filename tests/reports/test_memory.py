"""Memory counted by hand on a small network, and the same on the meta device."""

import copy

import pytest
import torch
from torch import nn

from graft_lightning.domains.digits import DigitFlow
from graft_lightning.modules import NoiseCorrector, PGraft, Pretrain, RealData
from graft_lightning.rejection.reference import LoRA, open_views
from graft_lightning.reports.memory import (
    activation_bytes,
    memory_of,
    optimiser_bytes,
    saved_bytes,
    size_of,
)
from tests.fakes import TinyReference

# TinyNetwork: 6 -> 16 -> 2, with biases
WEIGHTS = 4 * (6 * 16 + 16 + 16 * 2 + 2)
ADAPTERS = 4 * (2 * (6 + 16) + 2 * (16 + 2))  # rank 2 on both layers


def module_of(**arguments):
    return PGraft(handoff=0.25, reference=TinyReference(), **arguments)


@pytest.fixture(params=["built", "meta"])
def views_of(request):
    def make(module):
        return module.open_views() if request.param == "built" else module.meta_views()

    return make


def test_full_fine_tuning_keeps_two_copies(views_of):
    module = module_of()
    memory = memory_of(module, views_of(module), averaged=True)
    assert (memory.original, memory.trained, memory.gradients, memory.average) == (WEIGHTS,) * 4
    assert memory.optimiser == 2 * WEIGHTS  # AdamW: two moments
    assert memory.resident == 6 * WEIGHTS
    assert memory.checkpoint == 4 * WEIGHTS
    assert (memory.dtype, memory.adapters) == ("fp32", False)


def test_adapters_share_the_weights(views_of):
    module = module_of(lora=LoRA(rank=2), optimizer=torch.optim.SGD)
    memory = memory_of(module, views_of(module), averaged=False)
    assert (memory.original, memory.trained, memory.gradients) == (WEIGHTS, ADAPTERS, ADAPTERS)
    assert (memory.optimiser, memory.average, memory.checkpoint) == (0, 0, ADAPTERS)
    assert memory.adapters


def test_half_precision_is_counted_as_such_and_its_adapters_are_not(views_of):
    module = module_of(lora=LoRA(rank=2))
    reference = module.reference
    skeleton = reference.meta_network().to(torch.bfloat16)
    memory = memory_of(module, open_views(reference, skeleton, module.lora), averaged=False)
    assert (memory.original, memory.trained, memory.dtype) == (WEIGHTS // 2, ADAPTERS, "bf16")


def test_pre_training_has_one_copy(views_of):
    module = Pretrain(reference=TinyReference())
    memory = memory_of(module, views_of(module), averaged=False)
    assert (memory.original, memory.trained, memory.gradients) == (WEIGHTS, 0, WEIGHTS)
    assert memory.resident == 4 * WEIGHTS
    assert memory.checkpoint == 3 * WEIGHTS


def test_a_corrector_stands_before_a_frozen_flow(views_of):
    flow, reference = DigitFlow(network={"width": 24}), DigitFlow(network={"width": 8}, straight=True)
    frozen, corrector = (4 * sum(p.numel() for p in one.build(False).parameters()) for one in (flow, reference))
    module = NoiseCorrector(flow=flow, reference=reference)
    memory = memory_of(module, views_of(module), averaged=True)
    assert (memory.flow, memory.original, memory.trained, memory.average) == (frozen, corrector, 0, corrector)
    assert memory.resident == frozen + 5 * corrector
    assert memory.checkpoint == 4 * corrector  # the flow is no part of it


def test_real_data_have_no_network():
    assert RealData(TinyReference(), examples=None).meta_views() is None


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (torch.optim.SGD, 0),
        (lambda p: torch.optim.SGD(p, momentum=0.9), 1),
        (torch.optim.AdamW, 2),
        (lambda p: torch.optim.AdamW(p, amsgrad=True), 3),
        (lambda p: torch.optim.AdamW(p, foreach=True), 2),
    ],
    ids=["sgd", "momentum", "adamw", "amsgrad", "foreach"],
)
def test_states_of_optimisers_are_what_a_real_step_leaves(make, expected):
    network = nn.Linear(5, 7)
    assert optimiser_bytes(make, list(network.parameters())) == expected * 4 * (5 * 7 + 7)
    real = make(network.parameters())
    network(torch.ones(1, 5)).sum().backward()
    real.step()
    held = [v for state in real.state.values() for v in state.values() if torch.is_tensor(v) and v.numel() > 1]
    assert optimiser_bytes(make, list(network.parameters())) == size_of(held)
    assert all(p.device.type == "cpu" for p in network.parameters())


def test_an_optimiser_that_needs_numbers_is_not_counted():
    class Closed(torch.optim.SGD):
        def step(self, closure=None):
            float(self.param_groups[0]["params"][0].sum())

    assert optimiser_bytes(Closed, list(nn.Linear(2, 2).parameters())) is None


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_activations_of_an_mlp_by_hand(device):
    width = (6, 16, 10, 3)
    layers = [nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 10), nn.Tanh(), nn.Linear(10, 3)]
    network = nn.Sequential(*layers).to(device)

    def work(count):
        network(torch.ones(count, 6, device=device)).sum().backward()

    # a linear layer keeps its input, tanh its output, which is the next layer's input: the same storage, counted once
    each = 4 * sum(width[:3])
    own = [*network.parameters(), *network.buffers()]
    assert saved_bytes(lambda: work(5), own) == 5 * each
    assert activation_bytes(work, own, 64) == (64 * each, each)


def test_what_is_computed_without_gradient_is_not_kept():
    network = nn.Linear(4, 4)
    frozen = copy.deepcopy(network)

    def work(count):
        x = torch.ones(count, 4)
        with torch.no_grad():
            y = frozen(x) + 1
        network(x).add(y).sum().backward()

    assert activation_bytes(work, list(network.parameters()), 8) == (8 * 16, 16)
