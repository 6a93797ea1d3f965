"""Molecules parsed once and kept as memory-mapped arrays, positions centred.

The name of a stored set holds the fingerprint of what it was made from: a change of a source file or of the format
makes another folder.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.domains.base import ragged_files
from graft_lightning.domains.base.ragged import RaggedSet
from graft_lightning.domains.base.ragged_files import LeftOut
from graft_lightning.domains.molecules.atoms import ATOMS, Molecule, arrays
from graft_lightning.domains.molecules.files import read_molecules, source_files
from graft_lightning.domains.molecules.oddities import told
from graft_lightning.domains.molecules.perception import UNPARSEABLE, perceive
from graft_lightning.domains.molecules.qm9 import identifier, read_exclusions
from graft_lightning.identity import digest_of
from graft_lightning.types import SettingsError

FORMAT = 3
"""Raised when the arrays or the parsing change, so that old folders are left alone."""

CACHE = Path(".cache/molecules")
"""Where sets are kept by default, below the working directory."""

SHOWN = 80
"""Characters of a name that are quoted."""


class MoleculeSet(RaggedSet):
    """Molecules on disk, read as padded batches.

    Args:
        folder: of a stored set.
        indices: which molecules of it, in which order; all by default.
    """

    elements = ATOMS

    @property
    def atom_counts(self) -> np.ndarray:
        """Atoms of each molecule, int64 ``(molecules,)``."""
        return self.counts

    def collated(self, fields: dict[str, Tensor]) -> TensorDict:
        return TensorDict(fields, batch_size=fields["mask"].shape[:-1])

    def keys(self) -> Tensor:
        """De-duplication keys of all molecules, int64 ``(molecules,)``, as `perception` defines them.

        They are worked out once per stored set (about a minute for QM9) and kept beside it.
        """
        return torch.from_numpy(self.column("keys", _keys))


def _keys(molecules: MoleculeSet) -> np.ndarray:
    return np.array([molecule.key for piece in molecules.pieces() for molecule in perceive(piece)], dtype=np.int64)


def known_keys(molecules: MoleculeSet) -> Tensor:
    """The distinct keys of a training set, to tell what is novel, int64 ``(keys,)``, sorted."""
    keys = molecules.keys()
    return keys[keys != UNPARSEABLE].unique()


def load_files(
    paths: Path | str | Sequence[Path | str],
    cache: Path | str = CACHE,
    exclusions: Path | str | None = None,
    max_atoms: int | None = None,
) -> MoleculeSet:
    """The molecules of files, folders or archives; parsed the first time, mapped into memory ever after.

    Molecules with elements outside `atoms.SYMBOLS` are left out; they are told, and counted by element in the manifest.

    Args:
        paths: what `files.read_molecules` reads.
        cache: folder of stored sets.
        exclusions: QM9's list of uncharacterised molecules; the molecules must then be named ``gdb_<number>``, and are
            sorted by that number, as EDM's split asks.
        max_atoms: larger molecules are left out.

    Raises:
        FileNotFoundError: if a path is absent.
        FormatError: naming file and line, if a file is malformed or empty.
        SettingsError: naming the file, if it was cut short; if with ``exclusions`` two molecules have one number.
    """
    sources = source_files(paths) + ([Path(exclusions)] if exclusions is not None else [])
    excluded = read_exclusions(exclusions) if exclusions is not None else None
    stats = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in sources]
    description = {
        "paths": [str(path) for path in ([paths] if isinstance(paths, Path | str) else paths)],
        "sources": digest_of(stats),
        "exclusions": exclusions is not None,
        "max_atoms": max_atoms,
    }

    def parse(left_out: LeftOut) -> Iterator[Molecule]:
        found = told(read_molecules(paths))
        if excluded is not None:
            found = _characterised(found, excluded, left_out)
        for molecule in found:
            if molecule.foreign:
                left_out.add("elements " + " ".join(sorted(molecule.foreign)), _where(molecule))
            elif max_atoms is not None and len(molecule.symbols) > max_atoms:
                left_out.add(f"more than {max_atoms} atoms", f"{_where(molecule)}: {len(molecule.symbols)}")
            else:
                yield molecule

    return stored(Path(cache), "files", description, parse)


def _where(molecule: Molecule) -> str:
    return f"{molecule.source} ({molecule.name[:SHOWN]})" if molecule.name else molecule.source


def _characterised(molecules: Iterable[Molecule], excluded: frozenset[int], left_out: LeftOut) -> Iterator[Molecule]:
    kept: dict[int, Molecule] = {}
    for molecule in molecules:
        number = identifier(molecule)
        if number in excluded:
            left_out.add("uncharacterised", _where(molecule))
        elif number in kept:
            raise SettingsError(
                f"{molecule.source}: {molecule.name} is also in {kept[number].source}; give every molecule of QM9 once"
            )
        else:
            kept[number] = molecule
    for number in sorted(kept):
        yield kept[number]


def stored(
    cache: Path,
    name: str,
    description: dict[str, object],
    make: Callable[[LeftOut], Iterable[Molecule]],
    tell: bool = True,
) -> MoleculeSet:
    """The set that ``description`` names: opened where it is stored, else made and stored.

    Args:
        cache: folder of stored sets.
        name: first part of the folder's name.
        description: everything that decides the content; its hash is the second part.
        make: yields the molecules, and counts in its argument what it leaves out and why.
        tell: whether to warn of what was left out, as `ragged_files.stored` does.

    Raises:
        ValueError: if nothing is left.
    """

    def fields(left_out: LeftOut) -> Iterator[dict[str, np.ndarray]]:
        for molecule in make(left_out):
            yield arrays(molecule.positions - molecule.positions.mean(0), molecule.symbols)

    return MoleculeSet(ragged_files.stored(cache, name, {"format": FORMAT, **description}, ATOMS, fields, tell))
