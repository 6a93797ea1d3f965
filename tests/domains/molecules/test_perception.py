"""RDKit graph, SMILES and keys of hand-written molecules, and EDM's figures on real data."""

import numpy as np
import pytest
import torch

from graft_lightning.domains.molecules.atoms import Molecule, padded
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
