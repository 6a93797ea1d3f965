import copy

import pytest
import torch
from torch import nn

from graft_lightning.modules.muon import MuonAdamW, StackedMuon, orthogonalised


def test_singular_values_come_near_one_and_directions_stay():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 8, 8), (2, 12, 5), (2, 5, 12)):
        found = orthogonalised(torch.randn(shape, generator=generator))
        values = torch.linalg.svdvals(found)
        assert values.max() < 1.3
        assert values.median() > 0.6
    one = torch.zeros(1, 4, 4)
    one[0, 1, 2] = -0.3
    assert orthogonalised(one)[0].abs().argmax() == 6
    assert orthogonalised(one)[0, 1, 2] < -0.6


def test_parity_with_pytorch_to_its_half_precision():
    torch.manual_seed(0)
    ours, theirs = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)
    theirs.load_state_dict(ours.state_dict())
    mine = StackedMuon(ours.parameters(), lr=0.02, momentum=0.95)
    reference = torch.optim.Muon(theirs.parameters(), lr=0.02, momentum=0.95, weight_decay=0.0)
    start = ours.weight.detach().clone()
    for step in range(5):
        x = torch.randn(32, 16, generator=torch.Generator().manual_seed(step))
        for network, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            (network(x) - x.roll(1, 1)).square().mean().backward()
            optimizer.step()
    moved = (theirs.weight - start).norm()
    assert (ours.weight - theirs.weight).norm() < 0.05 * moved


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.LayerNorm(9), nn.SiLU(), nn.Linear(9, 2))


def train(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        x = torch.randn(20, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (model(x) - x[:, :2]).square().mean().backward()
        optimizer.step()


def test_both_kinds_of_parameters_learn():
    model = network()
    before = copy.deepcopy(model.state_dict())
    train(model, MuonAdamW(model.parameters(), lr=0.02, vector_lr=0.01), 40)
    assert all(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(99))
    assert (model(x) - x[:, :2]).square().mean() < 0.5


def test_a_saved_state_goes_on_as_if_nothing_had_happened():
    whole, first = network(), network()
    train(whole, MuonAdamW(whole.parameters()), 8)
    optimizer = MuonAdamW(first.parameters())
    train(first, optimizer, 4)
    second = network()
    second.load_state_dict(first.state_dict())
    resumed = MuonAdamW(second.parameters())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(second, resumed, 4, start=4)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value)


def test_schedules_reach_both_parts():
    optimizer = MuonAdamW(network().parameters(), lr=0.1, vector_lr=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.005])
    assert [part.param_groups[0]["lr"] for part in optimizer._parts] == pytest.approx([0.05, 0.005])


def test_only_vectors_or_only_matrices_will_do():
    assert len(MuonAdamW([nn.Parameter(torch.ones(3))]).param_groups) == 1
    assert len(MuonAdamW([{"params": [nn.Parameter(torch.ones(3, 3))]}]).param_groups) == 1
    with pytest.raises(ValueError, match="matrices"):
        StackedMuon([nn.Parameter(torch.ones(3))])
