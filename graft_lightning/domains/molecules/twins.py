"""One sample in several files: ``m.sdf`` and ``m.xyz``, as runs write them, or one file that is named twice."""

import logging
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np

from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.format_error import EmptyFileError, FormatError

logger = logging.getLogger(__name__)

Entry = Molecule | FormatError
"""A molecule, or what is wrong where one should be."""

COMPARED = 1000
"""Entries of a file by which it is known; beyond them twins are taken to be alike."""

CLOSE = 1e-3
"""Angstrom; SD files have four decimals."""

_Trace = tuple[str, np.ndarray] | None


class Twins:
    """Remembers what was read, and passes over a file that holds the same under the same name but for the suffix."""

    def __init__(self) -> None:
        self._seen: dict[str, list[_Trace]] = {}
        self._passed_over: list[str] = []

    def once(self, place: str, path: object, entries: Iterator[Entry]) -> Iterator[Entry]:
        """The entries of a file, none if they have been read before; one that says so if there is no molecule.

        Args:
            place: folder and name without suffix.
            path: for messages.
            entries: of the file.
        """
        earlier = self._seen.get(place)
        if earlier is None:
            traces = self._seen.setdefault(place, [])
        else:
            first = list(islice(entries, COMPARED))
            traces = []
            if _alike(earlier, [_trace(entry) for entry in first] or [None]):
                self._passed_over.append(str(path))
                return
            entries = chain(first, entries)
        empty = True
        for entry in entries:
            empty = False
            if len(traces) < COMPARED:
                traces.append(_trace(entry))
            yield entry
        if empty:
            traces.append(None)
            yield EmptyFileError(path)

    def tell(self) -> None:
        """Warns of the files that were passed over."""
        if self._passed_over:
            logger.warning(
                "molecules that are there twice, in files of one name, are counted once; %d passed over: %s%s",
                len(self._passed_over),
                ", ".join(self._passed_over[:3]),
                ", ..." if len(self._passed_over) > 3 else "",
            )


def _trace(entry: Entry) -> _Trace:
    if isinstance(entry, FormatError):
        return None
    return " ".join(entry.symbols), entry.positions.astype(np.float32)


def _alike(first: list[_Trace], second: list[_Trace]) -> bool:
    return len(first) == len(second) and all(map(_same, first, second))


def _same(first: _Trace, second: _Trace) -> bool:
    if first is None or second is None:
        return first is second
    return first[0] == second[0] and bool(np.allclose(first[1], second[1], rtol=1e-6, atol=CLOSE))
