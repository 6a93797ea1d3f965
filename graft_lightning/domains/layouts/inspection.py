"""What is wrong with layouts in files: found by one set of rules, counted by kind, and told. Nothing is kept silently.

An element that breaks a rule is left out, and its page is marked as filtered, as LayoutDM's pre-processing has it. A
page without an element, or with too many, is left out.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.domains.layouts.vocabularies import VOCABULARIES, Vocabulary
from graft_lightning.types import SettingsError

logger = logging.getLogger(__name__)

OFF_PAGE = "off the page"
NO_SIZE = "zero or negative size"
NOT_FINITE = "not finite"
UNKNOWN = "unknown category"
DUPLICATE = "duplicate id"
NO_PAGE = "page not in the file"
MALFORMED = "malformed element"
CLIPPED = "cut at the page's edge"
"""Of an element that is kept in part."""
OF_ELEMENTS = (OFF_PAGE, NO_SIZE, NOT_FINITE, UNKNOWN, DUPLICATE, NO_PAGE, MALFORMED)
"""Kinds of faults of elements."""

BROKEN = "broken file"
BROKEN_ENTRY = "broken entry"
DUPLICATE_PAGE = "duplicate page id"
NO_PAGE_SIZE = "page without a size"
WIDE = "wider than high"
EMPTY = "empty page"
TOO_MANY = "too many elements"
OF_PAGES = (BROKEN, BROKEN_ENTRY, DUPLICATE_PAGE, NO_PAGE_SIZE, WIDE, EMPTY, TOO_MANY)
"""Kinds of faults of pages."""

TOLERANCE = 1e-6
"""Shares of the page's side by which an edge may leave it: rounded numbers do."""

SHOWN = 80
"""Characters of what is quoted."""

DISTINCT = 1000
"""Labels at most that are remembered of those that the vocabulary lacks."""

Element = tuple[str | None, Sequence[float]]
"""What it is called (None of a category that the file does not explain); left, top, right, bottom in any unit."""


class Inspection:
    """Judges elements and pages, and counts what is left out.

    Args:
        vocabulary: whose labels there may be.
        max_elements: pages with more are left out; None takes any.
        portrait: whether pages that are wider than high are left out.
        off_page: whether an element that leaves the page is left out ("drop"), or cut at the page's edges and counted
            ("clip").

    Attributes:
        counts: faults by kind.
        first: where a kind was found first.
        labels: elements by what they are called, as far as the vocabulary has it.
        unknown: elements by what they are called that the vocabulary lacks.

    Raises:
        SettingsError: if an argument is out of its range.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        max_elements: int | None = None,
        portrait: bool = False,
        off_page: Literal["drop", "clip"] = "drop",
    ) -> None:
        if max_elements is not None and max_elements < 1:
            raise SettingsError(f"max_elements={max_elements}; it must be at least 1")
        if off_page not in ("drop", "clip"):
            raise SettingsError(f"off_page={off_page!r}; it is 'drop' or 'clip'")
        self.vocabulary, self.max_elements = vocabulary, max_elements
        self.portrait, self.off_page = portrait, off_page
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.labels: Counter[int] = Counter()
        self.unknown: Counter[str] = Counter()

    def fault(self, kind: str, where: str, number: int = 1) -> None:
        """Counts a fault; remembers where its kind was found first."""
        self.counts[kind] += number
        self.first.setdefault(kind, where)

    def layout(
        self,
        elements: Iterable[Element],
        size: tuple[float, float],
        name: str,
        source: str,
        filtered: bool = False,
        origin: tuple[float, float] = (0.0, 0.0),
    ) -> Layout | None:
        """The page that elements make; None, counted, if it is left out.

        Args:
            elements: as they stand in the file.
            size: width and height of the page, in the elements' unit.
            name: of the page.
            source: file and place, for messages.
            filtered: whether an element has been left out before.
            origin: of the page's left and upper edges.
        """
        where = f"{source} ({name})" if name and name not in source else source
        if not all(math.isfinite(side) and side > 0 for side in size):
            self.fault(NO_PAGE_SIZE, f"{where}: {size[0]} x {size[1]}")
            return None
        if self.portrait and size[1] < size[0]:
            self.fault(WIDE, where)
            return None
        labels, boxes, given = [], [], 0
        for label, ltrb in elements:
            given += 1
            judged = self._element(label, ltrb, size, origin, where)
            if judged is not None:
                labels.append(judged[0])
                boxes.append(judged[1])
        if not labels:
            self.fault(EMPTY, where)
            return None
        if self.max_elements is not None and len(labels) > self.max_elements:
            self.fault(TOO_MANY, f"{where}: {len(labels)}")
            return None
        return Layout(
            np.array(labels, dtype=np.int64),
            np.array(boxes, dtype=np.float64),
            name,
            source,
            filtered or len(labels) < given,
        )

    def _element(
        self,
        label: str | None,
        ltrb: Sequence[float],
        size: tuple[float, float],
        origin: tuple[float, float],
        where: str,
    ) -> tuple[int, list[float]] | None:
        """Label, and centre and size as shares of the page's sides; None, counted, if it is left out."""
        index = None if label is None else self.vocabulary.index(label)
        if index is None:
            if label is not None and (label[:SHOWN] in self.unknown or len(self.unknown) < DISTINCT):
                self.unknown[label[:SHOWN]] += 1
            self.fault(UNKNOWN, f"{where}: {str(label)[:SHOWN]!r}")
            return None
        self.labels[index] += 1
        if not all(math.isfinite(edge) for edge in ltrb):
            self.fault(NOT_FINITE, where)
            return None
        left, top, right, bottom = ((ltrb[k] - origin[k % 2]) / size[k % 2] for k in range(4))
        if right <= left or bottom <= top:
            self.fault(NO_SIZE, where)
            return None
        if min(left, top) < -TOLERANCE or max(right, bottom) > 1 + TOLERANCE:
            left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in (left, top, right, bottom))
            if self.off_page == "drop" or right <= left or bottom <= top:
                self.fault(OFF_PAGE, where)
                return None
            self.fault(CLIPPED, where)
        return index, [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]

    def refuse_wrong_guess(self) -> None:
        """Of a vocabulary that was guessed: refuses one that lacks most labels, or those of most elements.

        Raises:
            SettingsError: naming the first file, the labels that are unknown, and the vocabularies.
        """
        if len(self.unknown) <= len(self.labels) and self.unknown.total() <= self.labels.total():
            return
        names = ", ".join(repr(label) for label, _ in self.unknown.most_common(8))
        more = f" and {len(self.unknown) - 8} more" if len(self.unknown) > 8 else ""
        raise SettingsError(
            f"{self.first[UNKNOWN]}: the vocabulary is guessed to be {self.vocabulary.name!r}, which lacks "
            f"{len(self.unknown)} of {len(self.unknown) + len(self.labels)} labels, of {self.unknown.total()} elements "
            f"of {self.unknown.total() + self.labels.total()}: {names}{more}; set vocabulary to the right one of "
            f"{', '.join(VOCABULARIES)}, or rename the labels to those of one of them"
        )

    def tell(self) -> None:
        """Warns of every kind of fault: how many, and where the first one is."""
        for kind, number in self.counts.most_common():
            outcome = "kept in part" if kind == CLIPPED else "left out"
            logger.warning("%d x %s: %s; the first is %s", number, kind, outcome, self.first[kind])
