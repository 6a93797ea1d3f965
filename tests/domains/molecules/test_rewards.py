import pytest
import torch

from graft_lightning.domains.molecules import perception
from graft_lightning.domains.molecules.atoms import padded
from graft_lightning.domains.molecules.perception import UNPARSEABLE, molecule_keys, shared
from graft_lightning.domains.molecules.rewards import (
    Composition,
    DrugLikeness,
    Heteroatoms,
    LogPWindow,
    LowStrain,
    Stable,
    StableAtoms,
    SyntheticAccessibility,
    Valid,
)
from graft_lightning.rejection.reward import score
from graft_lightning.rejection.rewards import WeightedSum

NAMES = ["methane", "methyl", "methanium", "two_waters", "formaldehyde", "nitroxyl"]

EXPECTED = [
    (Stable(), [1, 0, 0, 1, 1, 1]),
    (Stable(connected=True), [1, 0, 0, 0, 1, 1]),
    (StableAtoms(), [1, 3 / 4, 5 / 6, 1, 1, 1]),
    (Valid(), [1, 1, 0, 1, 1, 1]),
    (Heteroatoms(at_least=1), [0, 0, 0, 1, 1, 1]),
    (Heteroatoms(at_least=2), [0, 0, 0, 1, 0, 1]),
    (Composition({"C": 1}), [1, 1, 1, 1 / 2, 1, 1 / 2]),
    (Composition({"C": 1, "O": 1, "H": 2}), [1 / 4, 1 / 3, 1 / 5, 1 / 5, 1, 1 / 3]),
]


@pytest.mark.parametrize(("reward", "expected"), EXPECTED)
def test_hand_written(reward, expected, molecule):
    got = score(reward, padded([molecule(name) for name in NAMES]), [""] * len(NAMES))
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float32))


def test_heteroatoms_of_stable_molecules_only(molecule):
    samples = padded([molecule("carbon_monoxide"), molecule("formaldehyde")])
    assert Heteroatoms(1)(samples, [""] * 2).tolist() == [1, 1]
    assert Heteroatoms(1, stable=True)(samples, [""] * 2).tolist() == [0, 1]


@pytest.mark.parametrize("reward", [DrugLikeness(), LogPWindow(-1, 1), SyntheticAccessibility(), LowStrain()])
def test_invalid_gets_the_least(reward, molecule):
    samples = padded([molecule("methanium"), molecule("methane")])
    samples["positions"][1, 2] = torch.nan
    assert reward(samples, [""] * 2).tolist() == [0, 0]


def test_properties_agree_with_rdkit(molecule):
    """Of the molecule without explicit hydrogens, as RDKit's own entry points expect it."""
    from rdkit import Chem
    from rdkit.Chem import QED, Crippen

    names = ["formaldehyde", "hydrogen_cyanide", "water_and_methane"]
    samples = padded([molecule(name) for name in names])
    mols = [Chem.MolFromSmiles(smiles) for smiles in ("C=O", "C#N", "C")]
    expected = torch.tensor([QED.qed(mol) for mol in mols])
    torch.testing.assert_close(DrugLikeness()(samples, [""] * 3), expected)
    logp = torch.tensor([Crippen.MolLogP(mol) for mol in mols])
    window = LogPWindow(low=0.2, high=0.3, margin=0.8)(samples, [""] * 3)
    outside = (0.2 - logp).clamp_min(0) + (logp - 0.3).clamp_min(0)
    torch.testing.assert_close(window, (1 - outside / 0.8).clamp_min(0))
    assert ((window > 0) & (window < 1)).any()


def test_accessibility_orders_easy_before_hard():
    """Ethanol is easier to make than a strained, substituted ring; both scores are those of RDKit's module."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    from graft_lightning.domains.molecules.atoms import Molecule
    from graft_lightning.domains.molecules.rewards import _sa_scorer

    molecules = []
    for smiles in ("CCO", "FC1NC1O"):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        AllChem.EmbedMolecule(mol, randomSeed=1)
        AllChem.MMFFOptimizeMolecule(mol)
        symbols = tuple(atom.GetSymbol() for atom in mol.GetAtoms())
        molecules.append(Molecule(symbols, mol.GetConformer().GetPositions()))
    easy, hard = SyntheticAccessibility()(padded(molecules), [""] * 2).tolist()
    assert 1 >= easy > hard >= 0
    assert easy == pytest.approx((10 - _sa_scorer().calculateScore(Chem.MolFromSmiles("CCO"))) / 9)


def test_low_strain_falls_as_bonds_are_stretched(molecule):
    samples = padded([molecule("methane")] * 3)
    for row, length in enumerate((1.09, 1.15, 1.185)):
        samples["positions"][row, 1] *= length / 1.09
    rewards = LowStrain(scale=2.0)(samples, [""] * 3).tolist()
    assert rewards[0] > 0.95
    assert rewards[0] > rewards[1] > rewards[2] > 0
    assert Stable()(samples, [""] * 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: LogPWindow(2, 1), "low=2 must not lie above high=1"),
        (lambda: LogPWindow(1, 2, margin=0), "margin=0"),
        (lambda: Composition({"Cl": 1}), "among H, C, N, O, F"),
        (lambda: Composition({}), "target="),
        (lambda: LowStrain(0), "scale=0 kcal/mol"),
    ],
)
def test_arguments_out_of_range(make, problem):
    with pytest.raises(ValueError, match=problem):
        make()


def test_weighted_sum_perceives_once(molecule, monkeypatch):
    calls = []
    real = perception.perceive
    monkeypatch.setattr(perception, "perceive", lambda samples: calls.append(1) or real(samples))
    perception._remembered.clear()
    samples = padded([molecule(name) for name in NAMES])
    got = WeightedSum([Stable(), StableAtoms(), Valid()], [1.0, 2.0, -1.0])(samples, [""] * 6)
    torch.testing.assert_close(got, torch.tensor([2.0, 0.5, 5 / 3, 2.0, 2.0, 2.0]))
    assert molecule_keys(samples)[0] >= 0
    assert len(calls) == 1


def test_shared_perception_sees_changes_in_place(molecule):
    samples = padded([molecule("methane")])
    assert Stable()(samples, [""]).tolist() == [1]
    samples["positions"][0, 1] += 3
    assert Stable()(samples, [""]).tolist() == [0]
    samples["types"][0, 0] = 2
    assert shared(samples)[0].count("N") == 1


def test_keys(molecule):
    keys = molecule_keys(padded([molecule(name) for name in ["water", "two_waters", "methane", "methanium"]]))
    assert keys.dtype == torch.int64
    assert keys[0] == keys[1] != keys[2]
    assert keys[3] == UNPARSEABLE
