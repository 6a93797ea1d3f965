"""Molecules parsed once and kept as memory-mapped arrays.

A stored set is a folder of ``positions.npy`` (float32, centred), ``types.npy`` (uint8), ``offsets.npy`` (int64,
molecule m owns the atoms offsets[m] to offsets[m + 1]) and ``manifest.json``. It is written beside its place and
renamed, so that a folder that exists is complete. Its name holds the fingerprint of what it was made from: a change of
a source file or of the format makes another folder.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from torch.utils.data import Dataset

from graft_lightning.domains.molecules.atoms import TYPES, Molecule, batch
from graft_lightning.domains.molecules.files import read_molecules, source_files
from graft_lightning.domains.molecules.perception import UNPARSEABLE, perceive
from graft_lightning.domains.molecules.qm9 import histogram, identifier, read_exclusions
from graft_lightning.identity import digest_of

FORMAT = 1
"""Raised when the arrays or the parsing change, so that old folders are left alone."""

CACHE = Path(".cache/molecules")
"""Where sets are kept by default, below the working directory."""

Indices = Sequence[int] | np.ndarray | Tensor | slice


class MoleculeSet(Dataset[TensorDict]):
    """Molecules on disk, read as padded batches.

    Args:
        folder: of a stored set.
        indices: which molecules of it, in which order; all by default.

    Attributes:
        folder: where it is stored.
        indices: int64 ``(molecules,)``, places in the stored set.
        atom_counts: int64 ``(molecules,)``.
        manifest: what it was made from, and what was left out.
    """

    def __init__(self, folder: Path | str, indices: np.ndarray | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        self._positions = np.load(self.folder / "positions.npy", mmap_mode="r")
        self._types = np.load(self.folder / "types.npy", mmap_mode="r")
        self._offsets = np.load(self.folder / "offsets.npy")
        self.indices = np.arange(len(self._offsets) - 1) if indices is None else np.asarray(indices, dtype=np.int64)
        self.atom_counts = np.diff(self._offsets)[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int | Indices) -> TensorDict:
        """One molecule without padding, or several as a padded batch (`read` says how wide)."""
        if isinstance(index, int | np.integer):
            return self.read([int(index)], width=int(self.atom_counts[index]))[0]
        return self.read(index)

    @property
    def width(self) -> int:
        """Atoms of the largest molecule; 0 for an empty set."""
        return int(self.atom_counts.max(initial=0))

    def read(self, index: Indices, width: int | None = None) -> TensorDict:
        """Molecules as a padded batch.

        Args:
            index: places in this set.
            width: atoms per row; by default those of the largest molecule of the whole set, the same for every batch.

        Raises:
            ValueError: if a molecule has more than ``width`` atoms.
        """
        chosen = self.indices[_as_numpy(index)]
        start, count = self._offsets[chosen], self._offsets[chosen + 1] - self._offsets[chosen]
        width = self.width if width is None else width
        if count.max(initial=0) > width:
            raise ValueError(f"a molecule has {count.max()} atoms, more than the width of {width}")
        mask = np.arange(width) < count[:, None]
        place = np.where(mask, start[:, None] + np.arange(width), 0)
        positions = np.where(mask[..., None], self._positions[place], np.float32(0))
        types = np.where(mask, self._types[place], 0).astype(np.int64)
        return batch(torch.from_numpy(positions), torch.from_numpy(types), torch.from_numpy(mask))

    def subset(self, indices: Indices) -> "MoleculeSet":
        """The molecules at ``indices`` of this set, as a set."""
        return MoleculeSet(
            self.folder, self.indices[np.asarray(indices) if not isinstance(indices, slice) else indices]
        )

    def histogram(self) -> dict[int, int]:
        """Molecules by number of atoms."""
        return histogram(self.atom_counts)

    def keys(self) -> Tensor:
        """De-duplication keys of all molecules, int64 ``(molecules,)``, as `perception` defines them.

        They are worked out once per stored set (about a minute for QM9) and kept beside it.
        """
        path = self.folder / "keys.npy"
        if not path.exists():
            whole = MoleculeSet(self.folder)
            keys = [molecule.key for piece in _pieces(len(whole)) for molecule in perceive(whole[piece])]
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".partial", delete=False) as file:
                np.save(file, np.array(keys, dtype=np.int64))
            os.replace(file.name, path)
        return torch.from_numpy(np.load(path)[self.indices])


def _as_numpy(index: Indices) -> np.ndarray | slice:
    return index if isinstance(index, slice) else np.asarray(index)


def _pieces(length: int, size: int = 4096) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


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

    Molecules with elements outside `atoms.SYMBOLS` are left out; the manifest counts them by element.

    Args:
        paths: what `files.read_molecules` reads.
        cache: folder of stored sets.
        exclusions: QM9's list of uncharacterised molecules; the molecules must then be named ``gdb_<number>``, and are
            sorted by that number, as EDM's split asks.
        max_atoms: larger molecules are left out.

    Raises:
        FileNotFoundError: if a path is absent.
        FormatError: naming file and line, if a file is malformed.
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

    def parse(left_out: Counter[str]) -> Iterator[Molecule]:
        found = read_molecules(paths)
        if excluded is not None:
            found = _characterised(found, excluded, left_out)
        for molecule in found:
            if molecule.foreign:
                left_out["elements " + " ".join(sorted(molecule.foreign))] += 1
            elif max_atoms is not None and len(molecule.symbols) > max_atoms:
                left_out[f"more than {max_atoms} atoms"] += 1
            else:
                yield molecule

    return stored(Path(cache), "files", description, parse)


def _characterised(
    molecules: Iterable[Molecule], excluded: frozenset[int], left_out: Counter[str]
) -> Iterator[Molecule]:
    kept = {}
    for molecule in molecules:
        number = identifier(molecule)
        if number in excluded:
            left_out["uncharacterised"] += 1
        else:
            kept[number] = molecule
    for number in sorted(kept):
        yield kept[number]


def stored(
    cache: Path, name: str, description: dict[str, object], make: Callable[[Counter[str]], Iterable[Molecule]]
) -> MoleculeSet:
    """The set that ``description`` names: opened where it is stored, else made and stored.

    Processes that ask at the same time wait for the first one.

    Args:
        cache: folder of stored sets.
        name: first part of the folder's name.
        description: everything that decides the content; its hash is the second part.
        make: yields the molecules, and counts in its argument what it leaves out and why.

    Raises:
        ValueError: if nothing is left.
    """
    description = {"format": FORMAT, **description}
    folder = cache / f"{name}-{digest_of(description)}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache / f"{folder.name}.lock"):
            if not folder.exists():
                _write(folder, description, make)
    return MoleculeSet(folder)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(folder: Path, description: dict[str, object], make: Callable[[Counter[str]], Iterable[Molecule]]) -> None:
    left_out: Counter[str] = Counter()
    positions, types, offsets = [], [], [0]
    for molecule in make(left_out):
        positions.append((molecule.positions - molecule.positions.mean(0)).astype(np.float32))
        types.append(np.array([TYPES[symbol] for symbol in molecule.symbols], dtype=np.uint8))
        offsets.append(offsets[-1] + len(molecule.symbols))
    if not positions:
        raise ValueError(f"no molecule is left of {description}; left out: {dict(left_out) or 'none'}")
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        np.save(temporary / "positions.npy", np.concatenate(positions))
        np.save(temporary / "types.npy", np.concatenate(types))
        np.save(temporary / "offsets.npy", np.array(offsets, dtype=np.int64))
        manifest = {**description, "molecules": len(positions), "left_out": dict(left_out)}
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        for file in temporary.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
