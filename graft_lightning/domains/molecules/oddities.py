"""Files that are read well and yet judged wrongly: drawings in the plane, and molecules without their hydrogens."""

import logging
from collections.abc import Iterable, Iterator, Sequence

from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.perception import Perceived

logger = logging.getLogger(__name__)


class Oddities:
    """Counts what looks like a drawing, or like heavy atoms only; a stable molecule never does."""

    def __init__(self) -> None:
        self.molecules = self.flat = self.bare = 0

    def update(self, molecules: Sequence[Perceived]) -> None:
        """Looks at some more molecules."""
        odd = [molecule for molecule in molecules if molecule.atoms > 1 and not molecule.stable]
        self.molecules += len(molecules)
        self.flat += sum(bool((molecule.positions[:, 2] == molecule.positions[0, 2]).all()) for molecule in odd)
        self.bare += sum(molecule.count("H") == 0 for molecule in odd)

    def tell(self) -> None:
        """Warns of what was found."""
        if self.flat:
            logger.warning(
                "%d of %d molecules are flat, with all z alike, and unstable: distances in a 2-D drawing are no bond "
                "lengths; give 3-D coordinates",
                self.flat,
                self.molecules,
            )
        if self.bare:
            logger.warning(
                "%d of %d molecules are unstable and have no hydrogen atom: where a file holds heavy atoms only, add "
                "the hydrogens, for stability counts them",
                self.bare,
                self.molecules,
            )


def told(molecules: Iterable[Molecule]) -> Iterator[Molecule]:
    """The molecules; warns at the end if most of those with more than three atoms are flat, or most lack hydrogen."""
    all_of_them = flat = bare = 0
    for molecule in molecules:
        if len(molecule.symbols) > 3:
            all_of_them += 1
            flat += bool((molecule.positions[:, 2] == molecule.positions[0, 2]).all())
            bare += "H" not in molecule.symbols
        yield molecule
    for odd, what in ((flat, "are flat, as 2-D drawings are"), (bare, "have no hydrogen atom, as if left out")):
        if 2 * odd > all_of_them:
            logger.warning("%d of %d molecules with more than 3 atoms %s", odd, all_of_them, what)
