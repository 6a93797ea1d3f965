"""Hand-written molecules: a few lines of geometry each, in Angstrom."""

from collections.abc import Callable

import numpy as np
import pytest

from graft_lightning.domains.molecules.atoms import Molecule

Atoms = list[tuple[str, float, float, float]]

TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)

WATER: Atoms = [("O", 0, 0, 0), ("H", 0.96, 0, 0), ("H", -0.24, 0.93, 0)]
METHANE: Atoms = [("C", 0, 0, 0), *(("H", *(1.09 * corner)) for corner in TETRAHEDRON)]
METHYL: Atoms = METHANE[:-1]
ETHYLENE: Atoms = [
    ("C", 0, 0, 0), ("C", 1.33, 0, 0),
    ("H", -0.55, 0.94, 0), ("H", -0.55, -0.94, 0), ("H", 1.88, 0.94, 0), ("H", 1.88, -0.94, 0),
]  # fmt: skip
ACETYLENE: Atoms = [("H", -1.06, 0, 0), ("C", 0, 0, 0), ("C", 1.20, 0, 0), ("H", 2.26, 0, 0)]
HYDROGEN_CYANIDE: Atoms = [("H", -1.06, 0, 0), ("C", 0, 0, 0), ("N", 1.15, 0, 0)]
FORMALDEHYDE: Atoms = [("O", 1.20, 0, 0), ("C", 0, 0, 0), ("H", -0.55, 0.94, 0), ("H", -0.55, -0.94, 0)]
AMMONIA: Atoms = [("N", 0, 0, 0), ("H", 0.94, 0, -0.38), ("H", -0.47, 0.81, -0.38), ("H", -0.47, -0.81, -0.38)]
NITROGEN: Atoms = [("N", 0, 0, 0), ("N", 1.10, 0, 0)]
OXYGEN: Atoms = [("O", 0, 0, 0), ("O", 1.21, 0, 0)]
NITROXYL: Atoms = [("H", -0.5, 0.94, 0), ("N", 0, 0, 0), ("O", 1.21, 0, 0)]
CARBON_MONOXIDE: Atoms = [("C", 0, 0, 0), ("O", 1.13, 0, 0)]
HYDROGEN_FLUORIDE: Atoms = [("F", 0, 0, 0), ("H", 0.92, 0, 0)]
# carbon with five hydrogens: the fifth where methane's faces leave room
METHANIUM: Atoms = [*METHANE, ("H", *(-1.09 * TETRAHEDRON[0]))]


def _moved(atoms: Atoms, by: float) -> Atoms:
    return [(symbol, x + by, y, z) for symbol, x, y, z in atoms]


WATER_AND_METHANE: Atoms = [*WATER, *_moved(METHANE, 6.0)]
TWO_WATERS: Atoms = [*WATER, *_moved(WATER, 6.0)]

MOLECULES = {
    name.lower(): atoms for name, atoms in list(globals().items()) if name.isupper() and isinstance(atoms, list)
}


@pytest.fixture(scope="session")
def molecule() -> Callable[[str], Molecule]:
    """A hand-written molecule by name."""

    def build(name: str) -> Molecule:
        atoms = MOLECULES[name]
        return Molecule(tuple(a[0] for a in atoms), np.array([a[1:] for a in atoms], dtype=float), name=name)

    return build
