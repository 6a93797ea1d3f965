"""EDM's bond rule against its printed cut-offs, a scalar re-statement, and molecules for every branch."""

import pytest
import torch

from graft_lightning.domains.molecules.atoms import SYMBOLS, padded
from graft_lightning.domains.molecules.edm_rules import (
    CUTOFFS,
    DOUBLE,
    MARGINS,
    SINGLE,
    TRIPLE,
    VALENCE,
    bond_orders,
    connected_molecules,
    stable_atoms,
    stable_molecules,
)

# Cut-offs in pm as EDM's tables and margins give them when added up by hand.
PRINTED = {
    "CC": (164, 139, 123), "CN": (157, 134, 119), "CO": (153, 125, 116), "NN": (155, 130, 113), "NO": (150, 126),
    "OO": (158, 126), "HH": (84,), "HC": (119,), "HN": (111,), "HO": (106,), "HF": (102,), "CF": (145,), "NF": (146,),
    "OF": (152,), "FF": (152,),
}  # fmt: skip


def order_of_pair(first: str, second: str, distance: torch.Tensor) -> int:
    positions = torch.zeros(1, 2, 3, dtype=distance.dtype)
    positions[0, 1, 0] = distance
    types = torch.tensor([[SYMBOLS.index(first), SYMBOLS.index(second)]])
    orders = bond_orders(positions, types, torch.ones(1, 2, dtype=torch.bool))
    assert orders[0, 0, 1] == orders[0, 1, 0]
    return int(orders[0, 0, 1])


def first_outside(cutoff: int, dtype: torch.dtype) -> torch.Tensor:
    """The smallest distance in Angstrom that is not below the cut-off in pm, for all that rounding does."""
    up = torch.tensor(torch.inf, dtype=dtype)
    distance = torch.tensor(cutoff / 100, dtype=dtype).nextafter(-up).nextafter(-up)
    assert distance * 100 < cutoff
    while distance * 100 < cutoff:
        distance = distance.nextafter(up)
    return distance


def test_every_pair_of_elements_is_printed():
    assert len(PRINTED) == len(SYMBOLS) * (len(SYMBOLS) + 1) // 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("pair", "cutoffs"), PRINTED.items())
def test_order_changes_at_the_cutoff(pair, cutoffs, dtype):
    for order, cutoff in enumerate(cutoffs, start=1):
        outside = first_outside(cutoff, dtype)
        inside = outside.nextafter(torch.zeros((), dtype=dtype))
        for first, second in (pair, pair[::-1]):
            assert order_of_pair(first, second, outside) == order - 1
            assert order_of_pair(first, second, inside) == order
    assert order_of_pair(*pair, torch.tensor(0.3, dtype=dtype)) == len(cutoffs)


@pytest.mark.parametrize("pair", ["CC", "CN", "CO", "NN", "OO"])
def test_a_distance_equal_to_the_cutoff_is_outside(pair):
    """The comparison is strict; these cut-offs are hit exactly in float32."""
    cutoff = PRINTED[pair][0]
    distance = torch.tensor(cutoff / 100)
    assert distance * 100 == cutoff
    assert order_of_pair(*pair, distance) == 0


def test_cutoffs_are_nested():
    """The vectorised rule counts cut-offs, which is EDM's nested rule only if each lies below the one before."""
    assert (CUTOFFS[0] > CUTOFFS[1]).all()
    assert ((CUTOFFS[1] > CUTOFFS[2]) | (CUTOFFS[1] == 0)).all()
    assert (CUTOFFS.transpose(1, 2) == CUTOFFS).all()


def scalar_order(first: str, second: str, picometres: float) -> int:
    """The rule as EDM's authors state it, one pair at a time."""

    def length(table):
        return table.get(first + second, table.get(second + first))

    if length(SINGLE) is None or not picometres < length(SINGLE) + MARGINS[0]:
        return 0
    if length(DOUBLE) is not None and picometres < length(DOUBLE) + MARGINS[1]:
        if length(TRIPLE) is not None and picometres < length(TRIPLE) + MARGINS[2]:
            return 3
        return 2
    return 1


def test_batch_equals_the_scalar_rule():
    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(20, 9, 3, generator=generator, dtype=torch.float64) * 2.5
    types = torch.randint(5, (20, 9), generator=generator)
    mask = torch.rand(20, 9, generator=generator) < 0.8
    orders = bond_orders(positions, types, mask)
    seen = set()
    for b in range(20):
        for i in range(9):
            for j in range(9):
                distance = 100 * float((positions[b, i] - positions[b, j]).norm())
                expected = scalar_order(SYMBOLS[types[b, i]], SYMBOLS[types[b, j]], distance)
                expected *= bool(mask[b, i] and mask[b, j] and i != j)
                assert orders[b, i, j] == expected
                seen.add(expected)
    assert seen == {0, 1, 2, 3}


# name -> bonds by order, stable atoms, stable molecule, connected
BRANCHES = {
    "methane": ({1: 4}, 5, True, True),
    "methyl": ({1: 3}, 3, False, True),  # carbon is under-valent, its hydrogens are stable
    "methanium": ({1: 5}, 5, False, True),  # carbon is over-valent
    "ethylene": ({1: 4, 2: 1}, 6, True, True),
    "acetylene": ({1: 2, 3: 1}, 4, True, True),
    "hydrogen_cyanide": ({1: 1, 3: 1}, 3, True, True),
    "formaldehyde": ({1: 2, 2: 1}, 4, True, True),
    "water": ({1: 2}, 3, True, True),
    "ammonia": ({1: 3}, 4, True, True),
    "nitrogen": ({3: 1}, 2, True, True),
    "oxygen": ({2: 1}, 2, True, True),
    "nitroxyl": ({1: 1, 2: 1}, 3, True, True),
    "carbon_monoxide": ({3: 1}, 0, False, True),  # order 3 fits neither carbon's 4 nor oxygen's 2
    "hydrogen_fluoride": ({1: 1}, 2, True, True),
    "water_and_methane": ({1: 6}, 8, True, False),  # stability does not ask for connectivity
    "two_waters": ({1: 4}, 6, True, False),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_branches(name, molecule):
    bonds, stable_count, stable, connected = BRANCHES[name]
    samples = padded([molecule(name)], width=12)
    orders = bond_orders(samples["positions"], samples["types"], samples["mask"])
    values, counts = torch.triu(orders).unique(return_counts=True)
    assert {int(v): int(c) for v, c in zip(values, counts, strict=True) if v} == bonds
    atoms = stable_atoms(orders, samples["types"], samples["mask"])
    assert atoms.sum() == stable_count
    assert stable_molecules(atoms, samples["mask"]).tolist() == [stable]
    assert connected_molecules(orders, samples["mask"]).tolist() == [connected]


def test_valence():
    assert dict(zip(SYMBOLS, VALENCE, strict=True)) == {"H": 1, "C": 4, "N": 3, "O": 2, "F": 1}


def test_padding_is_no_atom(molecule):
    """Padded rows lie at the origin, on top of an atom; they must bond to nothing, wherever they stand."""
    samples = padded([molecule("water")], width=6)
    order = torch.tensor([3, 0, 4, 1, 5, 2])
    samples = samples.apply(lambda field: field[:, order])
    orders = bond_orders(samples["positions"], samples["types"], samples["mask"])
    assert orders.sum() == 2 * 2
    assert stable_atoms(orders, samples["types"], samples["mask"])[0].tolist() == samples["mask"][0].tolist()
    assert connected_molecules(orders, samples["mask"]).all()


def test_no_atoms_is_not_stable():
    mask = torch.zeros(1, 3, dtype=torch.bool)
    assert not stable_molecules(torch.zeros(1, 3, dtype=torch.bool), mask).any()
    assert not connected_molecules(torch.zeros(1, 3, 3, dtype=torch.int64), mask).any()


def test_positions_that_are_not_finite_have_no_bonds(molecule):
    samples = padded([molecule("water")])
    samples["positions"][0, 1] = float("nan")
    orders = bond_orders(samples["positions"], samples["types"], samples["mask"])
    assert orders[0, 1].sum() == 0
    assert orders[0, 0, 2] == 1


def test_long_chains_are_connected():
    """Connectivity follows paths of any length: a chain of 29 carbons, and the same with a gap."""
    positions = torch.zeros(2, 29, 3)
    positions[:, :, 0] = torch.arange(29) * 1.5
    positions[1, 20:, 0] += 5
    types = torch.ones(2, 29, dtype=torch.int64)
    mask = torch.ones(2, 29, dtype=torch.bool)
    assert connected_molecules(bond_orders(positions, types, mask), mask).tolist() == [True, False]
