"""Small organic molecules in three dimensions: atom types (categorical) and positions (Gaussian, centred).

A batch of molecules is a ``TensorDict`` with the fields

* ``positions``, float ``(batch, atoms, 3)``, in Angstrom, zero where padded,
* ``types``, int64 ``(batch, atoms)``, index into `atoms.SYMBOLS`, 0 where padded,
* ``mask``, bool ``(batch, atoms)``, True where there is an atom.

Bonds are never stored: they are read off the distances by the rules of `edm_rules`.
"""

from graft_lightning.domains.molecules.conditions import AtomCounts
from graft_lightning.domains.molecules.examples import EmbeddedMolecules, MoleculeFiles
from graft_lightning.domains.molecules.reference import MoleculeReference

__all__ = ["AtomCounts", "EmbeddedMolecules", "MoleculeFiles", "MoleculeReference"]
