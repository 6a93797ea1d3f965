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
from graft_lightning.domains.molecules.files import read_molecules
from graft_lightning.domains.molecules.metrics import COUNTED, counts, novel, share, strains
from graft_lightning.domains.molecules.perception import CHUNK, UNPARSEABLE, Perceived, perceive

logger = logging.getLogger(__name__)

Paths = Path | str | Sequence[Path | str]


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

    Molecules with elements outside `atoms.SYMBOLS` cannot be judged; they are left out, counted and warned of.

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
        ValueError: if a path is of no readable kind.
        FormatError: naming file and line, if a file is malformed.
    """
    total: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
    left_out: Counter[str] = Counter()
    keys, energies = [], []
    from tqdm import tqdm

    read = tqdm(read_molecules(files), "scoring", unit=" molecules", disable=not progress, mininterval=1, leave=False)
    for molecules in _perceived(read, left_out):
        total.update(counts(molecules))
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
    distinct = torch.tensor(keys, dtype=torch.int64).unique()
    found = {
        "atom_stability": share(total["stable_atoms"], total["atoms"]),
        "molecule_stability": share(total["stable_molecules"], total["molecules"]),
        "validity": share(total["valid"], total["molecules"]),
        "uniqueness": share(len(distinct), total["valid"]),
        "valid_unique": share(len(distinct), total["molecules"]),
    }
    if train_files is not None:
        found["novelty"] = share(novel(distinct, _training_keys(train_files, cache)), len(distinct))
    found["connectivity"] = share(total["connected"], total["molecules"])
    if with_strain:
        energy = torch.cat([torch.empty(0, dtype=torch.float64), *energies])
        found["strain"] = energy.nanmedian()
        found["strain_judged"] = share(int(energy.isfinite().sum()), len(energy))
    numbers = {name: float(value) if value.isfinite() else None for name, value in found.items()}
    return {"molecules": total["molecules"], "left_out": left_out.total(), **numbers}


def _training_keys(files: Paths, cache: Path | str | None) -> Tensor:
    if cache is not None:
        return known_keys(load_files(files, cache))
    pieces = _perceived(read_molecules(files), Counter())
    return torch.tensor(sorted({molecule.key for piece in pieces for molecule in piece} - {UNPARSEABLE}))


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
