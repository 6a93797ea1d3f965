"""Training molecules, addressed by position in an endless stream."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from graft_lightning.domains.base import Examples
from graft_lightning.domains.base.counts import condition_of
from graft_lightning.domains.molecules.dataset import CACHE, MoleculeSet, load_files
from graft_lightning.domains.molecules.embedded import load_embedded
from graft_lightning.domains.molecules.qm9 import edm_split
from graft_lightning.domains.molecules.rotations import random_rotations, rotated
from graft_lightning.processes.noise import Noise, place_seeds
from graft_lightning.shuffles import shuffles
from graft_lightning.types import SettingsError

Part = Literal["train", "valid", "test", "all"]


class MoleculeExamples(Examples):
    """Molecules of one part of a set, in an endless sequence of shuffles; the condition is ``n=<number of atoms>``.

    Args:
        part: of EDM's split, or all.
        rotate: whether each is turned at random, another way every time it comes. A network that is not equivariant
            needs it; for one that is, the distribution of the loss is the same.
    """

    def __init__(self, part: Part = "train", rotate: bool = True) -> None:
        self.part, self.rotate = part, rotate

    @abstractmethod
    def load(self) -> MoleculeSet:
        """The whole set, all parts of it."""

    @cached_property
    def whole(self) -> MoleculeSet:
        """What `load` gives; loaded once, so that what was left out is told once."""
        return self.load()

    @cached_property
    def molecules(self) -> MoleculeSet:
        """The molecules of the part; loaded when first asked for.

        Raises:
            SettingsError: if the part is empty, as parts of very small sets are.
        """
        whole = self.whole
        part = whole if self.part == "all" else whole.subset(edm_split(len(whole))[self.part])
        if not len(part):
            raise SettingsError(f"part={self.part!r} has none of {len(whole)} molecules; give more, or part='all'")
        return part

    @cached_property
    def width(self) -> int:
        """Atoms per row of a batch: those of the largest molecule of all parts, so that all parts look alike."""
        return self.whole.width

    def batch(self, positions: Sequence[int], seed: int) -> tuple[Any, list[str]]:
        chosen = shuffles(len(self.molecules), seed, "molecules").at(positions)
        found = self.molecules.read(chosen, self.width)
        if self.rotate:
            seeds = place_seeds("rotation", seed, positions)
            found = rotated(found, random_rotations(Noise(seeds).normal(4)))
        return found, [condition_of(count) for count in self.molecules.atom_counts[chosen].tolist()]


class EmbeddedMolecules(MoleculeExamples):
    """Molecules of the embedded set, which is built on first use and needs no file.

    Args:
        max_heavy: heavy atoms at most.
        max_atoms: atoms at most, hydrogens included.
        cache: folder of stored sets.
        part: of EDM's split, or all.
        rotate: whether each is turned at random.
    """

    def __init__(
        self,
        max_heavy: int = 6,
        max_atoms: int = 12,
        cache: str = str(CACHE),
        part: Part = "train",
        rotate: bool = True,
    ) -> None:
        super().__init__(part, rotate)
        self.max_heavy, self.max_atoms, self.cache = max_heavy, max_atoms, cache

    def load(self) -> MoleculeSet:
        return load_embedded(self.max_heavy, self.max_atoms, self.cache)


class MoleculeFiles(MoleculeExamples):
    """Molecules of files: QM9, QM7, or any xyz and SD files.

    Args:
        paths: files, folders, archives.
        exclusions: QM9's ``uncharacterized.txt``, with which the parts are those of EDM.
        max_atoms: larger molecules are left out.
        cache: folder of stored sets.
        part: of EDM's split, or all.
        rotate: whether each is turned at random.
    """

    def __init__(
        self,
        paths: list[str],
        exclusions: str | None = None,
        max_atoms: int | None = None,
        cache: str = str(CACHE),
        part: Part = "train",
        rotate: bool = True,
    ) -> None:
        super().__init__(part, rotate)
        self.paths, self.exclusions, self.max_atoms, self.cache = list(paths), exclusions, max_atoms, cache

    def load(self) -> MoleculeSet:
        return load_files([Path(path) for path in self.paths], self.cache, self.exclusions, self.max_atoms)
