"""The number of elements as a condition, such as ``n=18``, in the proportions of real data."""

from collections.abc import Mapping

import numpy as np

from graft_lightning.domains.base.conditions import Conditions


def condition_of(count: int, group: int = 0) -> str:
    """The condition that asks for a number of elements; further groups of the same number have a mark."""
    return f"n={count}" + (f" #{group}" if group else "")


def count_of(condition: str, elements: str = "elements") -> int:
    """The number of elements that a condition asks for.

    Args:
        condition: what `condition_of` makes.
        elements: what they are, for the error message.

    Raises:
        ValueError: if it asks for none.
    """
    name, _, rest = condition.partition("=")
    digits = rest.partition(" #")[0]
    if name != "n" or not digits.isdecimal() or int(digits) < 1:
        raise ValueError(
            f"condition {condition!r} is not understood; it should be n=<number of {elements}>, such as n=18"
        )
    return int(digits)


def histogram(counts: np.ndarray) -> dict[int, int]:
    """How many samples have how many elements, by number of elements in rising order.

    Args:
        counts: integers ``(samples,)``.
    """
    values, occurrences = np.unique(np.asarray(counts), return_counts=True)
    return dict(zip(values.tolist(), occurrences.tolist(), strict=True))


def shared_out(histogram: Mapping[int, int], groups: int) -> dict[int, int]:
    """Groups by number of elements, the most frequent first.

    Quotas are rounded down, and what is left goes to the largest remainders.

    Args:
        histogram: samples by number of elements.
        groups: how many are shared out.
    """
    total = sum(histogram.values())
    quotas = {count: groups * samples / total for count, samples in histogram.items()}
    shares = {count: int(quota) for count, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda count: (shares[count] - quotas[count], count))
    for count in by_remainder[: groups - sum(shares.values())]:
        shares[count] += 1
    return {c: shares[c] for c in sorted(shares, key=lambda c: (-shares[c], c)) if shares[c]}


class Counts(Conditions):
    """Numbers of elements in the proportions of a histogram, in groups that count alike.

    A number that makes up a large part of the samples has several groups: "n=12", "n=12 #1", "n=12 #2". Every group
    draws, and is trained on, as often as any other, so that the distribution of the number of elements stays that of
    the data.

    Args:
        histogram: samples by number of elements.
        groups: how many; shared out by the method of largest remainders.
        limit: at most so many groups, the most frequent numbers first.

    Raises:
        ValueError: if there is no group, or the histogram counts nothing.
    """

    def __init__(self, histogram: Mapping[int, int], groups: int, limit: int | None = None) -> None:
        if groups < 1:
            raise ValueError(f"groups={groups}; it must be at least 1")
        if not histogram or min(histogram) < 1 or min(histogram.values()) < 0 or not sum(histogram.values()):
            raise ValueError(
                f"histogram={dict(histogram)}; it maps numbers of elements, from 1, to how many samples have them"
            )
        self.histogram, self.groups, self.limit = dict(histogram), groups, limit

    def texts(self) -> list[str]:
        shares = shared_out(self.histogram, self.groups)
        texts = [condition_of(count, group) for count, number in shares.items() for group in range(number)]
        return texts[: self.limit]
