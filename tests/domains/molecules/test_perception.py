"""RDKit graph, SMILES and keys of hand-written molecules, and EDM's figures on real data."""

import numpy as np
import pytest
import torch

from graft_lightning.domains.molecules import edm_rules, perception
from graft_lightning.domains.molecules.atoms import Molecule, batch, padded
from graft_lightning.domains.molecules.files import read_molecules
from graft_lightning.domains.molecules.perception import UNPARSEABLE, Perceived, perceive, smiles_key

EXPECTED = {
    "methane": "[H]C([H])([H])[H]",
    "ethylene": "[H]C([H])=C([H])[H]",
    "acetylene": "[H]C#C[H]",
    "hydrogen_cyanide": "[H]C#N",
    "formaldehyde": "[H]C([H])=O",
    "water": "[H]O[H]",
    "nitrogen": "N#N",
    "nitroxyl": "[H]N=O",
    "methyl": "[H]C([H])[H]",  # under-valent: RDKit adds an implicit hydrogen, and EDM calls it valid
    "methanium": None,  # over-valent
    "carbon_monoxide": None,  # a triple bond is one too many for neutral oxygen
    "water_and_methane": "[H]C([H])([H])[H]",  # the larger fragment
    "two_waters": "[H]O[H]",
}


@pytest.mark.parametrize(("name", "smiles"), EXPECTED.items())
def test_smiles_of_the_largest_fragment(name, smiles, molecule):
    (perceived,) = perceive([molecule(name)])
    assert perceived.smiles == smiles
    assert perceived.valid == (smiles is not None)
    assert perceived.key == (UNPARSEABLE if smiles is None else smiles_key(smiles))


def test_stable_implies_valid_but_not_the_reverse(molecule):
    methyl, methane = perceive([molecule("methyl"), molecule("methane")])
    assert (methyl.stable, methyl.valid) == (False, True)
    assert (methane.stable, methane.valid) == (True, True)


def test_atoms_that_are_nowhere_are_invalid(molecule):
    samples = padded([molecule("water")])
    samples["positions"][0, 2, 1] = torch.inf
    (perceived,) = perceive(samples)
    assert not perceived.valid
    assert perceived.key == UNPARSEABLE


def test_no_atoms_is_neither_stable_nor_valid():
    perceived = Perceived(np.zeros(0, dtype=np.int64), np.zeros((0, 3)), [], 0, False)
    assert not perceived.stable
    assert not perceived.valid


def test_key_knows_the_graph_and_not_the_geometry(molecule):
    """Order of atoms, rotation and translation leave the key alone; another graph changes it."""
    water = molecule("water")
    turned = Molecule(water.symbols[::-1], water.positions[::-1] @ np.diag([1, -1, -1]) + 3.0)
    keys = [perceived.key for perceived in perceive([water, turned, molecule("methane")])]
    assert keys[0] == keys[1] != keys[2]
    assert all(0 <= key < 2**63 for key in keys)


def test_key_is_the_same_in_every_process():
    """Python's own hash of a string is not: it is salted."""
    assert smiles_key("[H]O[H]") == 5750091383997379211


def test_bonds_are_numbered_within_the_molecule(molecule):
    """Padding in front of and between the atoms must not shift the numbers."""
    samples = padded([molecule("hydrogen_cyanide")], width=6)
    order = torch.tensor([4, 0, 5, 1, 3, 2])
    (perceived,) = perceive(samples.apply(lambda field: field[:, order]))
    assert perceived.bonds == [(0, 1, 1), (1, 2, 3)]
    assert perceived.smiles == "[H]C#N"


def test_counts_of_elements(molecule):
    (perceived,) = perceive([molecule("formaldehyde")])
    assert [perceived.count(symbol) for symbol in "HCNOF"] == [2, 1, 0, 1, 0]


def figures(molecules: list[Perceived]) -> dict[str, float]:
    smiles = [molecule.smiles for molecule in molecules if molecule.valid]
    return {
        "atoms": 100 * sum(m.stable_atoms for m in molecules) / sum(m.atoms for m in molecules),
        "molecules": 100 * sum(m.stable for m in molecules) / len(molecules),
        "valid": 100 * len(smiles) / len(molecules),
        "unique": 100 * len(set(smiles)) / len(smiles),
        "unique keys": 100 * len({m.key for m in molecules if m.valid}) / len(smiles),
        "connected": 100 * sum(m.connected for m in molecules) / len(molecules),
    }


def test_qm7_without_sulphur(test_data):
    found = [m for m in read_molecules(test_data / "qm7_xyz" / "qm7_xyz.tar.gz") if "S" not in m.symbols]
    perceived = perceive(found)
    assert len(perceived) == 6803
    got = figures(perceived)
    assert {name: round(value, 3) for name, value in got.items() if name in ("atoms", "molecules", "valid")} == {
        "atoms": 99.713,
        "molecules": 98.265,
        "valid": 98.265,
    }
    assert round(got["unique"], 2) == round(got["unique keys"], 2) == 99.70


def test_hundred_molecules_of_qm9(test_data):
    got = figures(perceive(list(read_molecules(test_data / "qm9_sample" / "qm9_sample.xyz"))))
    assert round(got.pop("atoms"), 3) == 99.328
    assert got == {"molecules": 95.0, "valid": 96.0, "unique": 100.0, "unique keys": 100.0, "connected": 100.0}


def chain(atoms):
    """A chain of carbons, 1.5 Angstrom apart."""
    positions = np.zeros((atoms, 3))
    positions[:, 0] = 1.5 * np.arange(atoms)
    return Molecule(("C",) * atoms, positions)


def test_memory_follows_the_molecules_not_the_largest_one(monkeypatch):
    """One molecule of 300 atoms among 1,024 costs what it has pairs; padded to it, all would cost 92 million."""
    looked_at = []

    def spy(positions, types, mask):
        looked_at.append((len(mask), mask.shape[1]))
        return edm_rules.bonds(positions, types, mask)

    monkeypatch.setattr(perception, "bonds", spy)
    sizes = [18] * 700 + [300] + [29] * 323
    for samples in ([chain(size) for size in sizes], padded([chain(size) for size in sizes])):
        looked_at.clear()
        found = perceive(samples)
        assert [molecule.atoms for molecule in found] == sizes
        assert [len(molecule.bonds) for molecule in found] == [size - 1 for size in sizes]
        assert all(molecule.connected for molecule in found)
        assert all(batch * width**2 <= edm_rules.PAIRS for batch, width in looked_at)
        assert sum(batch * width**2 for batch, width in looked_at) < 4e6
        assert len(looked_at) <= 3


def test_a_molecule_larger_than_the_budget_is_looked_at_in_rows(monkeypatch):
    whole = perceive([chain(40)])[0].bonds
    monkeypatch.setattr(edm_rules, "PAIRS", 100)
    monkeypatch.setattr(perception, "PAIRS", 100)
    (found,) = perceive([chain(40)])
    assert found.bonds == whole == [(i, i + 1, 1) for i in range(39)]


def test_batches_of_any_sizes_are_what_their_molecules_are(molecule):
    """In order, padding anywhere, with rows of no atom."""
    names = ["two_waters", "methane", "nitrogen", "water_and_methane", "methyl", "methane"]
    samples = padded([molecule(name) for name in names], width=20)
    empty = samples[:1].clone()
    empty["mask"][:] = False
    mixed = torch.cat([samples, empty])
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    for found in (perceive(mixed), perceive(mixed.apply(lambda field: field[:, order]))):
        assert [m.smiles for m in found[:-1]] == [perceive([molecule(name)])[0].smiles for name in names]
        assert [m.connected for m in found] == [False, True, True, False, True, True, False]
        assert found[-1].atoms == 0
    assert perceive(mixed[:0]) == perceive([]) == []


def test_connectivity_agrees_with_rdkit():
    """Random graphs of near-critical density, whose fragments have long and branched paths."""
    from rdkit import Chem

    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(200, 24, 3, generator=generator) * torch.linspace(1.5, 6, 200)[:, None, None]
    types = torch.randint(1, 4, (200, 24), generator=generator)
    found = perceive(batch(positions, types, torch.ones(200, 24, dtype=torch.bool)))
    expected = [len(Chem.GetMolFrags(perception.build_molecule(m.types, m.bonds))) == 1 for m in found]
    assert [m.connected for m in found] == expected
    assert 20 < sum(expected) < 180
