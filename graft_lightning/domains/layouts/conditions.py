"""Conditions of layouts: the number of elements, in the proportions of real ones."""

from graft_lightning.domains.base import counts
from graft_lightning.domains.base.counts import Counts
from graft_lightning.types import SettingsError

HISTOGRAMS = {
    "embedded": dict(
        enumerate((180, 342, 553, 1382, 2304, 2482, 2009, 1877, 1938, 1836, 1642, 1229, 878, 600, 438, 310), 1)
    ),
    "publaynet": dict(
        enumerate((32, 334, 423, 422, 540, 723, 825, 905, 950, 959, 895, 781, 620, 478, 359, 262, 188, 140, 97, 66), 1)
    ),
    "rico": dict(
        enumerate(
            (483, 351, 504, 619, 614, 700, 727, 636, 625, 636, 552, 523, 400, 461, 534, 373, 333, 322, 276, 333), 1
        )
    ),
}  # fmt: skip
"""Layouts of at most 20 elements by number of elements, LayoutFlow's of PubLayNet and Rico
in ten-thousandths."""


def count_of(condition: str) -> int:
    """The number of elements that a condition asks for, whatever else it tells of them (`partial`).

    Raises:
        ValueError: if it asks for none.
    """
    return counts.count_of(condition.partition("|")[0].strip(), "elements")


class ElementCounts(Counts):
    """Numbers of elements in the proportions of a histogram, in groups that count alike.

    Args:
        groups: how many; shared out by the method of largest remainders.
        histogram: layouts by number of elements, or the name of one: "embedded", "publaynet", "rico".
        limit: at most so many groups, the most frequent numbers first.

    Raises:
        SettingsError: if there is no histogram of this name.
    """

    def __init__(
        self, groups: int = 24, histogram: dict[int, int] | str = "embedded", limit: int | None = None
    ) -> None:
        if isinstance(histogram, str) and histogram not in HISTOGRAMS:
            raise SettingsError(
                f"histogram={histogram!r}; it is a mapping from numbers of elements to layouts, or one of "
                f"{', '.join(HISTOGRAMS)}"
            )
        super().__init__(HISTOGRAMS[histogram] if isinstance(histogram, str) else histogram, groups, limit)
