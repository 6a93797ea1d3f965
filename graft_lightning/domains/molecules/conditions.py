"""Conditions of molecules: the number of atoms, in the proportions of real molecules."""

from graft_lightning.domains.base import counts
from graft_lightning.domains.base.counts import Counts
from graft_lightning.domains.molecules.qm9 import ATOM_COUNTS as QM9_HISTOGRAM

EMBEDDED_HISTOGRAM = {3: 2, 4: 6, 5: 9, 6: 31, 7: 79, 8: 246, 9: 509, 10: 901, 11: 1304, 12: 1564}
"""Molecules of the embedded set (at most 6 heavy atoms, 12 atoms) by number of atoms."""


def count_of(condition: str) -> int:
    """The number of atoms that a condition asks for.

    Raises:
        ValueError: if it asks for none.
    """
    return counts.count_of(condition, "atoms")


class AtomCounts(Counts):
    """Numbers of atoms in the proportions of a histogram, in groups that count alike.

    Args:
        groups: how many; shared out by the method of largest remainders.
        histogram: molecules by number of atoms; by default that of the embedded set, "qm9" for QM9's.
        limit: at most so many groups, the most frequent numbers first.
    """

    def __init__(
        self, groups: int = 24, histogram: dict[int, int] | str | None = None, limit: int | None = None
    ) -> None:
        if isinstance(histogram, str) and histogram != "qm9":
            raise ValueError(f"histogram={histogram!r}; it is a mapping from atoms to molecules, or 'qm9'")
        named = QM9_HISTOGRAM if isinstance(histogram, str) else histogram
        super().__init__(EMBEDDED_HISTOGRAM if named is None else named, groups, limit)
