"""What is official about QM9: the molecules to leave out, EDM's split, EDM's histogram of atom counts.

References:
    Quantum chemistry structures and properties of 134 kilo molecules, Sci. Data 1, 140022 (2014).
    Split and histogram: EDM, arXiv 2203.17003 (its published code).
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.twins import Entry
from graft_lightning.types import SettingsError

logger = logging.getLogger(__name__)

MOLECULES = 133_885
"""In the archive; identifiers run from 1 to this."""

UNCHARACTERIZED = 3_054
"""Molecules that the authors of QM9 advise to leave out."""

TRAIN = 100_000
"""Molecules in the training part of EDM's split."""

ATOM_COUNTS = {
    3: 1, 4: 4, 5: 5, 6: 9, 7: 16, 8: 49, 9: 124, 10: 362, 11: 807, 12: 1689, 13: 3060, 14: 5136, 15: 7796, 16: 10644,
    17: 13025, 18: 13364, 19: 13832, 20: 9482, 21: 9970, 22: 3393, 23: 4848, 24: 539, 25: 1506, 26: 48, 27: 266, 29: 25,
}  # fmt: skip
"""Molecules of EDM's training part by number of atoms."""

SOURCES = {
    "dsgdb9nsd.xyz.tar.bz2": "https://springernature.figshare.com/ndownloader/files/3195389",
    "uncharacterized.txt": "https://springernature.figshare.com/ndownloader/files/3195404",
}
"""Where the files are to be had; nothing here downloads them."""


OFFICIAL = re.compile(r"(dsgdb9nsd(\.xyz)?|gdb9(\.sdf)?)(\.(tar|tgz|tbz2?|txz|zip|gz|bz2|xz))*", re.IGNORECASE)
"""What the whole of QM9 is called, as its authors or DeepChem publish it."""


def counted(path: Path, entries: Iterator[Entry]) -> Iterator[Entry]:
    """The entries of a file, folder or archive, looked at for a copy of QM9 that ends before its last molecule.

    Such a copy holds the molecules from the first on without a gap, as a download or an unpacking that was broken off
    leaves them. A choice of molecules made on purpose seldom does.

    Raises:
        SettingsError: at the end, if ``path`` is called what all of QM9 is called. Of others a warning is given.
    """
    found = named = 0
    gapless = True
    for entry in entries:
        found += 1
        if not isinstance(entry, FormatError):
            named += 1
            gapless = gapless and entry.name == f"gdb_{found}"
        yield entry
    official = OFFICIAL.fullmatch(path.name) is not None
    if gapless and named and found < MOLECULES and (official or found > 1):
        told = f"{path} holds the first {found:,} molecules of QM9, which has {MOLECULES:,}"
        if official:
            raise SettingsError(f"{told}: it was cut short; get it again, or give a part that is meant another name")
        logger.warning("%s: a part, or a copy that was cut short", told)


def read_exclusions(path: Path | str) -> frozenset[int]:
    """The identifiers (from 1) in a list of uncharacterised molecules: the first word of every line that has a number.

    Raises:
        FileNotFoundError: if the list is absent, saying where to get it.
        FormatError: if there is none, or one beyond the last molecule of QM9.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; get it from {SOURCES['uncharacterized.txt']}")
    found = set()
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        words = line.split()
        if words and words[0].isdecimal():
            if not 1 <= int(words[0]) <= MOLECULES:
                raise FormatError(path, number, f"the identifier {words[0]} should be between 1 and {MOLECULES}")
            found.add(int(words[0]))
    if not found:
        raise FormatError(path, 1, "no line begins with a number; this should be QM9's list of uncharacterised ones")
    if len(found) != UNCHARACTERIZED:
        logger.warning("%s lists %d molecules; QM9's own list has %d", path, len(found), UNCHARACTERIZED)
    return frozenset(found)


def identifier(molecule: Molecule) -> int:
    """The number in a name ``gdb_<number>``, as QM9's xyz and SD files have it.

    Raises:
        ValueError: if the name is another.
    """
    prefix, _, digits = molecule.name.partition("_")
    if prefix != "gdb" or not digits.isdecimal():
        raise ValueError(
            f"{molecule.source}: the name {molecule.name!r} should be gdb_<number>, to look it up in the exclusion list"
        )
    return int(digits)


def edm_split(count: int, train: int | None = None) -> dict[str, np.ndarray]:
    """EDM's split: a permutation with NumPy's seed 0, cut in the order train, valid, test.

    Of QM9's 130,831 molecules (sorted by identifier, the uncharacterised ones left out) these are 100,000, 17,748 and
    13,083. Test is a tenth of all, rounded down; valid is what remains.

    Args:
        count: molecules in all.
        train: molecules for training; by default the same share as in QM9, rounded.

    Returns:
        Indices by part: ``train``, ``valid``, ``test``.

    Raises:
        ValueError: if train and test together need more molecules than there are.
    """
    train = round(count * TRAIN / (MOLECULES - UNCHARACTERIZED)) if train is None else train
    test = int(0.1 * count)
    if train < 0 or train + test > count:
        raise ValueError(f"train={train} and a test part of {test} do not fit into {count} molecules")
    permutation = np.random.RandomState(0).permutation(count)
    parts = np.split(permutation, [train, count - test])
    return dict(zip(("train", "valid", "test"), parts, strict=True))
