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


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (24, 6), (6, 24)])
def test_parity_with_pytorch_to_its_half_precision(rows, columns):
    torch.manual_seed(0)
    ours, theirs = nn.Linear(columns, rows, bias=False), nn.Linear(columns, rows, bias=False)
    theirs.load_state_dict(ours.state_dict())
    settings = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.5}
    mine = StackedMuon(ours.parameters(), **settings)
    reference = torch.optim.Muon(theirs.parameters(), **settings)
    start = ours.weight.detach().clone()
    for step in range(5):
        x, y = torch.randn(32, rows + columns, generator=torch.Generator().manual_seed(step)).split([columns, rows], 1)
        for network, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            (network(x) - y).square().mean().backward()
            optimizer.step()
    moved = (theirs.weight - start).norm()
    assert (ours.weight - theirs.weight).norm() < 0.05 * moved


def quintic(value, steps=5):
    """What the iteration makes of one singular value."""
    for _ in range(steps):
        value = 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5
    return value


@pytest.mark.parametrize("shape", [(4, 4), (3, 8), (8, 3)])
def test_singular_values_follow_the_published_polynomial(shape):
    """U diag(s) V^T becomes U diag(p(s / |s|)) V^T, whether it is tall or wide."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    expected = left @ quintic(values / values.norm()).diag() @ right
    torch.testing.assert_close(orthogonalised(torch.stack([matrix, 7 * matrix])), expected.expand(2, *shape))


def stepped(weight, gradients, **settings):
    p = nn.Parameter(weight.clone())
    optimizer = StackedMuon([p], **settings)
    for gradient in gradients:
        p.grad = gradient
        optimizer.step()
    return p.detach()


@pytest.mark.parametrize(("rows", "columns", "scale"), [(8, 2, 2.0), (2, 8, 1.0), (4, 4, 1.0)])
def test_a_tall_matrix_moves_by_the_root_of_rows_over_columns(rows, columns, scale):
    """A gradient with one singular value has the step lr sqrt(max(1, rows / columns)) p(1) along it, against it."""
    gradient = torch.zeros(rows, columns)
    gradient[1, 0] = 3.0
    moved = stepped(torch.zeros(rows, columns), [gradient], lr=0.1)
    assert float(moved[1, 0]) == pytest.approx(-0.1 * scale * quintic(1.0), rel=1e-5)
    assert float(moved.abs().sum()) == pytest.approx(-float(moved[1, 0]))


def test_weights_decay_by_lr_times_the_decay():
    one = torch.ones(2, 2)
    assert stepped(one, [torch.zeros(2, 2)], lr=0.1, weight_decay=0.5).tolist() == [[pytest.approx(0.95)] * 2] * 2


def test_the_direction_is_nesterovs():
    """Buffer 0.1 g, then 0.09 g + 0.1 h; the update mixes gradient and buffer once more, 0.1 to 0.9."""
    g, h = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    found = stepped(torch.zeros(3, 3), [g, h], lr=1.0, momentum=0.9)
    first = 0.1 * g + 0.9 * 0.1 * g
    second = 0.1 * h + 0.9 * (0.09 * g + 0.1 * h)
    torch.testing.assert_close(found, -orthogonalised(torch.stack([first, second])).sum(0))


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


def test_both_parts_decay_by_their_own_step():
    matrix, vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = MuonAdamW([matrix, vector], lr=0.1, vector_lr=0.01, weight_decay=0.5)
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 0.95))
    torch.testing.assert_close(vector.detach(), torch.full((2,), 0.995))
