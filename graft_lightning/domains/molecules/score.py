"""Judging anybody's molecules by one set of rules: fractions, counts, and the median strain in kcal/mol.

atom_stability, molecule_stability, validity, uniqueness, valid_unique, connectivity, and novelty where --train is given
(fractions); strain (median of MMFF94, kcal/mol) and strain_judged.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from graft_lightning.domains.molecules.atoms import SYMBOLS, Molecule
from graft_lightning.domains.molecules.dataset import known_keys, load_files
from graft_lightning.domains.molecules.files import read_entries, read_molecules
from graft_lightning.domains.molecules.format_error import EmptyFileError, FormatError
from graft_lightning.domains.molecules.metrics import COUNTED, counts, novelty, share, strains
from graft_lightning.domains.molecules.oddities import Oddities
from graft_lightning.domains.molecules.perception import UNPARSEABLE, Perceived, perceive
from graft_lightning.domains.molecules.twins import Entry

logger = logging.getLogger(__name__)

Paths = Path | str | Sequence[Path | str]

CHUNK = 1024
"""Molecules that are held in memory at once."""

TOLD = 5
"""Molecules that cannot be read are named up to this many."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m graft_lightning score molecules` takes."""
    parser.add_argument(
        "files", nargs="+", metavar="FILES", help="xyz (one or many frames), SDF, folders, or archives of such"
    )
    parser.add_argument("--train", nargs="+", metavar="FILES", help="training molecules, for novelty")
    parser.add_argument("--cache", help="folder in which the training set's keys are kept for the next time")
    parser.add_argument("--no-strain", action="store_true", help="leave strain out, which takes most of the time")


def scores(options: argparse.Namespace) -> dict[str, float | int | None]:
    """`score` by the options of `add_arguments`."""
    return score(options.files, options.train, options.cache, not options.no_strain, progress=True)


def score(
    files: Paths,
    train_files: Paths | None = None,
    cache: Path | str | None = None,
    with_strain: bool = True,
    progress: bool = False,
) -> dict[str, float | int | None]:
    """The metrics of `metrics` for all molecules of files, folders and archives (`files.read_molecules`).

    Molecules with elements outside `atoms.SYMBOLS` cannot be judged; they are left out, counted and warned of. Those
    that cannot be read, and files without any, count as molecules that are not valid, and are warned of by name.

    Args:
        files: what is judged.
        train_files: the training set, for novelty.
        cache: folder in which the training set's keys are kept for the next time; they are not kept by default.
        with_strain: whether to relax molecules by MMFF94, which costs most of the time.
        progress: whether to show a progress bar, on standard error.

    Returns:
        By name: ``molecules`` and ``left_out`` (numbers), ``atom_stability``, ``molecule_stability``, ``validity``,
        ``uniqueness``, ``valid_unique``, ``novelty`` (only with a training set), ``connectivity``, ``strain_judged``
        (fractions), ``strain`` (median, kcal/mol). None where a fraction is one of nothing.

    Raises:
        FileNotFoundError: if a path is absent.
        SettingsError: if a path is of no readable kind, or was cut short.
        FormatError: naming file and line, if no molecule at all can be read, or one of the training set cannot.
    """
    total: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
    left_out: Counter[str] = Counter()
    keys, energies = [], []
    from tqdm import tqdm

    read = tqdm(read_entries(files), "scoring", unit=" molecules", disable=not progress, mininterval=1, leave=False)
    unreadable: list[FormatError] = []
    oddities = Oddities()
    for molecules in _perceived(_readable(read, unreadable), left_out):
        total.update(counts(molecules))
        oddities.update(molecules)
        keys += [molecule.key for molecule in molecules if molecule.key != UNPARSEABLE]
        if with_strain:
            energies.append(strains(molecules))
    if left_out:
        logger.warning(
            "%d molecules are left out, for their elements have no bond rule (%s): %s",
            left_out.total(),
            ", ".join(SYMBOLS),
            dict(left_out),
        )
    _count_unreadable(unreadable, total, left_out)
    oddities.tell()
    distinct = torch.tensor(keys, dtype=torch.int64).unique()
    found = {
        "atom_stability": share(total["stable_atoms"], total["atoms"]),
        "molecule_stability": share(total["stable_molecules"], total["molecules"]),
        "validity": share(total["valid"], total["molecules"]),
        "uniqueness": share(len(distinct), total["valid"]),
        "valid_unique": share(len(distinct), total["molecules"]),
    }
    if train_files is not None:
        found["novelty"] = novelty(distinct, _training_keys(train_files, cache))
    found["connectivity"] = share(total["connected"], total["molecules"])
    if with_strain:
        energy = torch.cat([torch.empty(0, dtype=torch.float64), *energies])
        found["strain"] = energy.nanmedian()
        found["strain_judged"] = share(int(energy.isfinite().sum()), total["molecules"])
    numbers = {name: float(value) if value.isfinite() else None for name, value in found.items()}
    return {"molecules": total["molecules"], "left_out": left_out.total(), **numbers}


def _readable(entries: Iterable[Entry], unreadable: list[FormatError]) -> Iterator[Molecule]:
    """The molecules among entries; keeps what is wrong with the others."""
    for entry in entries:
        if isinstance(entry, FormatError):
            unreadable.append(entry)
        else:
            yield entry


def _count_unreadable(unreadable: Sequence[FormatError], total: Counter[str], left_out: Counter[str]) -> None:
    """Counts what cannot be read as molecules none of whose atoms is stable, and warns of them.

    Raises:
        FormatError: the first one, if nothing else was there and the files are not just empty.
    """
    if not unreadable:
        return
    malformed = [error for error in unreadable if not isinstance(error, EmptyFileError)]
    if malformed and not total["molecules"] and not left_out:
        raise malformed[0]
    total["molecules"] += len(unreadable)
    total["atoms"] += sum(error.atoms for error in unreadable)
    logger.warning(
        "%d of %d molecules cannot be read, and count as invalid: %s%s",
        len(unreadable),
        total["molecules"],
        "; ".join(map(str, unreadable[:TOLD])),
        "; ..." if len(unreadable) > TOLD else "",
    )


def _training_keys(files: Paths, cache: Path | str | None) -> Tensor:
    if cache is not None:
        return known_keys(load_files(files, cache))
    pieces = _perceived(read_molecules(files), Counter())
    return torch.tensor(
        sorted({molecule.key for piece in pieces for molecule in piece} - {UNPARSEABLE}), dtype=torch.int64
    )


def _perceived(molecules: Iterable[Molecule], left_out: Counter[str]) -> Iterator[list[Perceived]]:
    """In pieces; counts by element what cannot be perceived."""
    known = _judgeable(molecules, left_out)
    while piece := list(islice(known, CHUNK)):
        yield perceive(piece)


def _judgeable(molecules: Iterable[Molecule], left_out: Counter[str]) -> Iterator[Molecule]:
    for molecule in molecules:
        if molecule.foreign:
            left_out[" ".join(sorted(molecule.foreign))] += 1
        else:
            yield molecule
