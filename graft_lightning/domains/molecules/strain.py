"""Strain: how far above its own relaxed geometry a molecule lies, by MMFF94.

A rule that reads bonds off distances is satisfied by geometries that no molecule has. The force field is not: strain is
the sanity check against rewards that are won by bending the rule. It is in kcal/mol and never negative; DFT geometries
have a few kcal/mol of it, because their minimum is not MMFF94's.

References:
    MMFF94: J. Comput. Chem. 17, 490 (1996).
"""

import math
from typing import TYPE_CHECKING

from graft_lightning.domains.molecules.perception import Perceived, build_molecule, sanitised

if TYPE_CHECKING:
    from rdkit.Chem import Mol

RELAXATION_STEPS = 500
"""At most; a molecule that is not converged by then is judged by where it has come to, a lower bound of its strain."""


def strain(molecule: Perceived) -> float:
    """E(geometry) - E(relaxed from it) in kcal/mol, NaN where the force field cannot judge.

    It cannot judge what is not a whole molecule (unstable, or in several fragments), nor what it has no parameters for.
    """
    if not (molecule.stable and molecule.connected and molecule.valid):
        return math.nan
    from rdkit.Chem import rdForceFieldHelpers

    mol = _with_geometry(molecule)
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol) if mol is not None else None
    if mol is None or properties is None:
        return math.nan
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    if field is None:
        return math.nan
    before = field.CalcEnergy()
    field.Minimize(maxIts=RELAXATION_STEPS)
    return max(0.0, before - field.CalcEnergy())


def _with_geometry(molecule: Perceived) -> "Mol | None":
    """A fresh copy of the molecule with its positions as conformer; relaxation moves them."""
    from rdkit import Chem
    from rdkit.Geometry import Point3D

    mol = sanitised(build_molecule(molecule.types, molecule.bonds))
    if mol is not None:
        conformer = Chem.Conformer(molecule.atoms)
        for i, (x, y, z) in enumerate(molecule.positions.tolist()):
            conformer.SetAtomPosition(i, Point3D(x, y, z))
        mol.AddConformer(conformer, assignId=True)
    return mol
