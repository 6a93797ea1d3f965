"""The embedded set: small molecules enumerated, and given a geometry by RDKit. No file is needed.

Every molecule of `enumeration` is embedded by ETKDGv3 with a fixed seed and relaxed with MMFF94. It is kept where EDM's
rule reads the molecule that was meant back from the geometry: all bonds, hence a stable molecule. What is lost
(about one in seven) is conjugated and strained systems, whose bond lengths lie between those of the tables.

References:
    ETKDG: J. Chem. Inf. Model. 55, 2562 (2015). MMFF94: J. Comput. Chem. 17, 490 (1996).
"""

from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.dataset import CACHE, MoleculeSet, stored
from graft_lightning.domains.molecules.enumeration import Graph, enumerate_graphs
from graft_lightning.domains.molecules.perception import perceive

if TYPE_CHECKING:
    from rdkit.Chem import Mol

EMBEDDING_SEED = 7
"""Of ETKDG, the same for every molecule."""

RELAXATION_STEPS = 2000
"""MMFF94 steps at most; a molecule that is not converged by then is left out."""

PIECE = 256
"""Molecules that are checked against the rule at a time."""


def load_embedded(
    max_heavy: int = 6, max_atoms: int = 12, cache: Path | str = CACHE, progress: bool = True
) -> MoleculeSet:
    """The embedded set; built the first time, in half a minute on one core for the default size.

    Args:
        max_heavy: heavy atoms at most.
        max_atoms: atoms at most, hydrogens included.
        cache: folder of stored sets.
        progress: whether to show a progress bar while it is built.
    """
    description = {"max_heavy": max_heavy, "max_atoms": max_atoms, "rdkit": version("rdkit")}
    return stored(
        Path(cache),
        "embedded",
        description,
        lambda left_out: build(max_heavy, max_atoms, left_out, progress),
        tell=False,
    )


def build(max_heavy: int, max_atoms: int, left_out: Counter[str], progress: bool = False) -> Iterator[Molecule]:
    """The molecules of the embedded set in the order of the enumeration, the SMILES as name.

    Args:
        max_heavy: heavy atoms at most.
        max_atoms: atoms at most, hydrogens included.
        left_out: counts what is dropped, by reason.
        progress: whether to show a progress bar.
    """
    from tqdm.auto import tqdm

    meant = _distinct(enumerate_graphs(max_heavy, max_atoms))
    pending: list[Molecule] = []
    for smiles, mol in tqdm(meant.items(), "embedding molecules", disable=not progress, mininterval=1):
        molecule = _embedded(smiles, mol, left_out)
        if molecule is not None:
            pending.append(molecule)
        if len(pending) == PIECE:
            yield from _read_back(pending, left_out)
            pending = []
    yield from _read_back(pending, left_out)


def _distinct(graphs: Iterator[Graph]) -> dict[str, "Mol"]:
    """Molecules by canonical SMILES, hydrogens implicit: aromatic rings drawn in two ways are one."""
    from rdkit import Chem

    order_of = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    found: dict[str, Mol] = {}
    for graph in graphs:
        mol = Chem.RWMol()
        for element in graph.elements:
            mol.AddAtom(Chem.Atom(element))
        for i, j, order in graph.bonds:
            mol.AddBond(i, j, order_of[order])
        Chem.SanitizeMol(mol)
        found.setdefault(Chem.MolToSmiles(mol), mol.GetMol())
    return found


def _embedded(smiles: str, mol: "Mol", left_out: Counter[str]) -> Molecule | None:
    """A relaxed conformer with explicit hydrogens; None, counted, where ETKDG or MMFF94 fails."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = EMBEDDING_SEED  # type: ignore[assignment]  # RDKit's stub has the wrong type
    parameters.maxIterations = 20  # type: ignore[assignment]  # attempts; who fails so often cannot be embedded
    full = Chem.AddHs(mol)
    if rdDistGeom.EmbedMolecule(full, parameters) != 0:
        left_out["no embedding"] += 1
        return None
    if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(full):
        left_out["no MMFF94 parameters"] += 1
        return None
    if rdForceFieldHelpers.MMFFOptimizeMolecule(full, maxIters=RELAXATION_STEPS) != 0:
        left_out["not relaxed"] += 1
        return None
    symbols = tuple(atom.GetSymbol() for atom in full.GetAtoms())
    return Molecule(symbols, np.array(full.GetConformer().GetPositions()), name=smiles, smiles=smiles)


def _read_back(molecules: list[Molecule], left_out: Counter[str]) -> Iterator[Molecule]:
    """Those whose geometry, by EDM's rule, is the molecule that was meant."""
    from rdkit import Chem

    for molecule, perceived in zip(molecules, perceive(molecules), strict=True):
        if perceived.stable and Chem.MolToSmiles(Chem.RemoveHs(perceived.mol)) == molecule.smiles:
            yield molecule
        else:
            left_out["another molecule by EDM's rule"] += 1
