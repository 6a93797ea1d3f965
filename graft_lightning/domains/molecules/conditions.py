"""Conditions of molecules: the number of atoms, in the proportions of real molecules."""

from graft_lightning.domains.base import Conditions
from graft_lightning.domains.molecules.qm9 import ATOM_COUNTS as QM9_HISTOGRAM

EMBEDDED_HISTOGRAM = {3: 2, 4: 6, 5: 9, 6: 31, 7: 79, 8: 246, 9: 509, 10: 901, 11: 1304, 12: 1564}
"""Molecules of the embedded set (at most 6 heavy atoms, 12 atoms) by number of atoms."""


def condition_of(count: int, group: int = 0) -> str:
    """The condition that asks for a number of atoms; further groups of the same number have a mark."""
    return f"n={count}" + (f" #{group}" if group else "")


def count_of(condition: str) -> int:
    """The number of atoms that a condition asks for.

    Raises:
        ValueError: if it asks for none.
    """
    name, _, rest = condition.partition("=")
    digits = rest.partition(" #")[0]
    if name != "n" or not digits.isdecimal() or int(digits) < 1:
        raise ValueError(f"condition {condition!r} is not understood; it should be n=<number of atoms>, such as n=18")
    return int(digits)


class AtomCounts(Conditions):
    """Numbers of atoms in the proportions of a histogram, in groups that count alike.

    A number that makes up a large part of the molecules has several groups: "n=12", "n=12 #1", "n=12 #2". Every group
    draws, and is trained on, as often as any other, so that the law of the number of atoms stays that of the data.

    Args:
        groups: how many; shared out by the method of largest remainders.
        histogram: molecules by number of atoms; by default that of the embedded set, "qm9" for QM9's.
        limit: at most so many groups, the most frequent numbers first.
    """

    def __init__(
        self, groups: int = 24, histogram: dict[int, int] | str | None = None, limit: int | None = None
    ) -> None:
        if groups < 1:
            raise ValueError(f"groups={groups}; it must be at least 1")
        if isinstance(histogram, str) and histogram != "qm9":
            raise ValueError(f"histogram={histogram!r}; it is a mapping from atoms to molecules, or 'qm9'")
        self.groups, self.histogram, self.limit = groups, histogram, limit

    def texts(self) -> list[str]:
        named = {"qm9": QM9_HISTOGRAM}.get(self.histogram) if isinstance(self.histogram, str) else self.histogram
        shares = shared_out(named or EMBEDDED_HISTOGRAM, self.groups)
        texts = [condition_of(count, group) for count, number in shares.items() for group in range(number)]
        return texts[: self.limit]


def shared_out(histogram: dict[int, int], groups: int) -> dict[int, int]:
    """Groups by number of atoms, the most frequent first: quotas rounded down, the rest to the largest remainders."""
    total = sum(histogram.values())
    quotas = {count: groups * molecules / total for count, molecules in histogram.items()}
    shares = {count: int(quota) for count, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda count: (shares[count] - quotas[count], count))
    for count in by_remainder[: groups - sum(shares.values())]:
        shares[count] += 1
    return {c: shares[c] for c in sorted(shares, key=lambda c: (-shares[c], c)) if shares[c]}
