"""``compile`` of a reference: the same numbers up to rounding, and the same names of weights."""

import pytest
import torch

from graft_lightning.modules import PGraft, Pretrain
from graft_lightning.rejection.reference import LoRA
from graft_lightning.types import Batch, Draws
from tests.fakes import TinyReference


def module_of(compiled, lora=None, scale=2.0):
    reference = TinyReference(guidance_scale=scale, output="v_prediction", dropout=0.0)
    reference.compile = compiled
    module = PGraft(reference=reference, handoff=0.5, lora=lora)
    module.log = lambda *values, **rest: None
    module._show = lambda *values: None
    module.configure_model()
    return module


def trained(module, steps=3):
    """Losses of a few steps, and samples of both models afterwards."""
    optimizer = torch.optim.SGD([p for p in module.network.parameters() if p.requires_grad], 0.1)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    losses = []
    for step in range(steps):
        batch = Batch(x, ["left", "right"] * 2, torch.arange(4) + 4 * step, torch.ones(4))
        loss = module.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    draws = Draws(["left", "right"], torch.tensor([0, 0]), torch.tensor([7, 8]))
    with torch.no_grad():
        return torch.stack(losses), module.sample(draws), module.sample_base(draws)


@pytest.fixture
def captured(monkeypatch):
    """Networks are captured and differentiated as graphs, whose operations run as they are: no C++ is compiled."""
    compiled = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network: compiled(network, backend="aot_eager"))


@pytest.mark.parametrize("lora", [None, LoRA(2)], ids=["full", "adapters"])
def test_a_compiled_network_gives_the_same_up_to_rounding(lora, captured):
    """Training, the adapted or copied model and the reference behind it, one after the other."""
    eager, compiled = module_of(False, lora), module_of(True, lora)
    compiled.network.load_state_dict(eager.network.state_dict())  # adapters begin at random
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    _, tuned, base = expected_of_all = trained(eager)
    assert (tuned - base).abs().max() > 2e-3  # the two models are not confused
    for found, expected in zip(trained(compiled), expected_of_all, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] > 0  # it was compiled, not passed by
    assert not counters["graph_break"]


@pytest.mark.slow
def test_kernels_are_made_as_for_users(monkeypatch):
    """By default, for sampling alone: a compiler takes seconds for each."""
    from torch._inductor import config, cpu_vec_isa

    monkeypatch.setattr(config, "cpp_cache_precompile_headers", False)
    monkeypatch.setattr(config, "compile_threads", 1)
    monkeypatch.setattr(cpu_vec_isa, "valid_vec_isa_list", list)  # each is found out by compiling a program
    draws = Draws(["left", "right"], torch.tensor([0, 0]), torch.tensor([7, 8]))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch.no_grad():
        expected, found = (module_of(compiled).sample_base(draws) for compiled in (False, True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    counters = torch._dynamo.utils.counters
    assert counters["inductor"], "nothing came to the compiler"
    assert not counters["graph_break"]


@pytest.mark.parametrize("lora", [None, LoRA(2)], ids=["full", "adapters"])
def test_names_of_weights_stay(lora):
    plain, compiled = module_of(False, lora), module_of(True, lora)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert type(compiled.network) is type(plain.network)
    compiled.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("compiled", [True, False])
def test_both_networks_are_compiled_where_it_is_asked_for(compiled):
    views = module_of(compiled).opened()
    assert views.network is not views.original
    for network in (views.network, views.original):
        assert (network._compiled_call_impl is not None) is compiled


def test_it_is_off_unless_asked_for():
    module = Pretrain(reference=TinyReference())
    module.configure_model()
    assert module.network._compiled_call_impl is None
