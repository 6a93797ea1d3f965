"""Symmetries of the networks: exact to float tolerance, in float64 to leave no doubt what is rounding."""

import pytest
import torch

from graft_lightning.domains.molecules.egnn import EGNN
from graft_lightning.domains.molecules.rotations import random_rotations, rotated
from graft_lightning.domains.molecules.transformer import MoleculeTransformer

BATCH, ATOMS, CLASSES = 3, 7, 5
SIZES = torch.tensor([7, 4, 1])

EGNNS = {
    "embedded": {},
    "edm": {"pair_width": 0, "radial": 0, "layers": 3, "width": 32},
    "averaged": {"normalization_factor": 7.0, "norm_constant": 0.0},
}


def inputs(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(ATOMS) < SIZES[:, None]
    positions = 1.5 * torch.randn(BATCH, ATOMS, 3, generator=generator, dtype=torch.float64) * mask[..., None]
    types = torch.randint(CLASSES, (BATCH, ATOMS), generator=generator) * mask
    times = torch.rand(2, BATCH, generator=generator, dtype=torch.float64)
    return positions, types, times[0], times[1], mask


def awake(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The network with weights as if it had been trained: nothing is zero, and atoms really move."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network.double().eval()


@pytest.fixture(params=EGNNS)
def egnn(request):
    return awake(EGNN(**EGNNS[request.param]))


@pytest.fixture(params=[*EGNNS, "transformer"])
def network(request):
    return awake(MoleculeTransformer() if request.param == "transformer" else EGNN(**EGNNS[request.param]))


def assert_close(got, expected):
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_outputs_are_awake(network):
    """The tests below would pass on a network that returns nothing."""
    positions, logits = network(*inputs())
    assert (positions.shape, logits.shape) == ((BATCH, ATOMS, 3), (BATCH, ATOMS, CLASSES))
    assert positions[0].abs().max() > 1e-2
    assert logits[0].std() > 1e-2


@pytest.mark.parametrize("determinant", [1, -1])
def test_rotation_and_reflection(egnn, determinant):
    positions, *rest = inputs()
    turn = random_rotations(torch.randn(BATCH, 4, dtype=torch.float64)) * determinant
    assert torch.linalg.det(turn).round().tolist() == [determinant] * BATCH
    moved, logits = egnn(positions, *rest)
    assert_close(egnn(positions @ turn.mT, *rest), (moved @ turn.mT, logits))


def test_single_precision_is_equivariant_to_its_tolerance():
    network = awake(EGNN()).float()
    positions, *rest = inputs()
    turn = random_rotations(torch.randn(BATCH, 4))
    moved, logits = network(positions.float(), *rest)
    turned, logits_turned = network(positions.float() @ turn.mT, *rest)
    scale = float(moved.detach().abs().max())
    torch.testing.assert_close(turned, moved @ turn.mT, atol=1e-4 * scale, rtol=0)
    torch.testing.assert_close(logits_turned, logits, atol=1e-4 * float(logits.detach().abs().max()), rtol=0)


def test_translation(network):
    positions, *rest, mask = inputs()
    shift = torch.randn(BATCH, 1, 3, dtype=torch.float64) * mask[..., None]
    assert_close(network(positions + shift, *rest, mask), network(positions, *rest, mask))


def test_permutation(network):
    positions, types, t_x, t_c, mask = inputs()
    order = torch.randperm(ATOMS)
    moved, logits = network(positions, types, t_x, t_c, mask)
    got = network(positions[:, order], types[:, order], t_x, t_c, mask[:, order])
    assert_close(got, (moved[:, order], logits[:, order]))


def test_padding_is_not_seen(network):
    """Neither what stands in padded places nor how many there are changes a molecule; the outputs there are zero."""
    positions, types, t_x, t_c, mask = inputs()
    expected = network(positions, types, t_x, t_c, mask)
    for output in expected:
        assert output[~mask].abs().max() == 0
    junk = torch.where(mask[..., None], positions, 100.0)
    assert_close(network(junk, torch.where(mask, types, 3), t_x, t_c, mask), expected)
    alone = network(positions[1:2, :4], types[1:2, :4], t_x[1:2], t_c[1:2], mask[1:2, :4])
    assert_close(alone, [output[1:2, :4] for output in expected])


def test_centre_of_mass_stays(network):
    moved, _ = network(*inputs())
    assert moved.sum(1).abs().max() < 1e-9


def test_one_atom_cannot_move(network):
    moved, logits = network(*inputs())
    assert moved[2].abs().max() < 1e-9
    assert logits[2, 0].isfinite().all()


def test_both_times_matter(network):
    positions, types, t_x, t_c, mask = inputs()
    expected = network(positions, types, t_x, t_c, mask)[1]
    for changed in ((t_x + 0.1, t_c), (t_x, t_c + 0.1), (t_c, t_x)):
        assert (network(positions, types, *changed, mask)[1] - expected)[mask].abs().max() > 1e-3


def test_types_as_indices_and_as_codes_are_the_same(network):
    positions, types, *rest = inputs()
    codes = torch.nn.functional.one_hot(types, CLASSES).double()
    assert_close(network(positions, codes, *rest), network(positions, types, *rest))


def test_batch_without_atoms_is_finite(network):
    positions, types, t_x, t_c, mask = inputs()
    for output in network(positions * 0, types, t_x, t_c, mask & False):
        assert output.abs().max() == 0


@pytest.mark.parametrize("network_class", [EGNN, MoleculeTransformer])
def test_gradients_reach_every_weight(network_class):
    """DDP would wait for those that get none. The transformer's layers that start at zero open one after the other."""
    network = network_class().double()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-4)
    for _ in range(3):
        optimiser.zero_grad()
        positions, *rest = inputs()
        moved, logits = network(positions, *rest)
        ((moved - positions).square().sum() + logits.square().sum() + logits.sum()).backward()
        optimiser.step()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_atoms_on_top_of_each_other_have_finite_gradients():
    network = EGNN().double()
    positions, *rest = inputs()
    positions = (positions * 0).requires_grad_()
    moved, logits = network(positions, *rest)
    (moved.square().sum() + logits.sum()).backward()
    assert positions.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("network_class", "settings", "low", "high"),
    [
        (EGNN, {"layers": 9, "width": 256, "pair_width": 0, "radial": 0}, 5.2e6, 5.6e6),  # EDM's own: 5.3 million
        (MoleculeTransformer, {"layers": 12, "width": 384, "heads": 6}, 22e6, 23e6),
        (MoleculeTransformer, {}, 0.4e6, 0.6e6),
    ],
    ids=["edm", "transformer", "embedded transformer"],
)
def test_sizes(network_class, settings, low, high):
    """Those that the docstrings and experiments give."""
    with torch.device("meta"):
        network = network_class(**settings)
    count = sum(p.numel() for p in network.parameters())
    assert low < count < high


def test_transformer_does_not_know_rotations():
    """Which is why it is trained on rotated molecules; were it equivariant, the test would show it."""
    network = awake(MoleculeTransformer())
    positions, *rest = inputs()
    turn = random_rotations(torch.randn(BATCH, 4, dtype=torch.float64))
    moved, _ = network(positions, *rest)
    turned, _ = network(positions @ turn.mT, *rest)
    assert (turned - moved @ turn.mT).abs().max() > 1e-2


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="heads=5 does not divide width=96"):
        MoleculeTransformer(heads=5)


def test_rotations_are_uniform():
    """Orthogonal, proper, and with the moments of the uniform distribution: E R = 0, E R_ij^2 = 1/3, E trace^2 = 1."""
    generator = torch.Generator().manual_seed(0)
    turn = random_rotations(torch.randn(20_000, 4, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).double().expand_as(turn), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(20_000).double())
    assert turn.mean(0).abs().max() < 5 / (3 * 20_000) ** 0.5
    assert (turn.square().mean(0) - 1 / 3).abs().max() < 0.012
    trace = turn.diagonal(dim1=1, dim2=2).sum(-1)
    assert trace.square().mean() == pytest.approx(1, abs=0.05)


def test_rotated_turns_positions_only(molecule):
    from graft_lightning.domains.molecules.atoms import padded
    from graft_lightning.domains.molecules.perception import perceive

    samples = padded([molecule("methane"), molecule("water")])
    before = samples["positions"].clone()
    turned = rotated(samples, random_rotations(torch.randn(2, 4)))
    assert (turned["positions"] - before).abs().max() > 0.1
    torch.testing.assert_close(samples["positions"], before)
    assert [p.smiles for p in perceive(turned)] == [p.smiles for p in perceive(samples)]
