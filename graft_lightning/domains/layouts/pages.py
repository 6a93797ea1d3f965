"""Procedural pages: what a typesetter would do, drawn at random, without any file.

A page has one to three columns between its margins and a grid of lines that all of them share. Page titles stand above
the columns, and now and then a figure or table with its caption spans them. Columns are filled from the top with
paragraphs, headed or not, lists, and figures and tables with captions. All edges then lie on few guides: such a page is
perfectly aligned, but for titles that are centred above several columns. Misalignment is added on purpose and by a
known amount: on a share of the pages every element is moved, and its size changed, by independent Gaussian numbers.

Page number i of a seed is the same however many are made.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.domains.layouts.vocabularies import PUBLAYNET
from graft_lightning.types import SettingsError

TEXT, TITLE, LIST, TABLE, FIGURE = range(len(PUBLAYNET))

COLUMNS = (0.35, 0.5, 0.15)
"""Shares of pages with one, two and three columns."""

BLOCKS = {"paragraph": 0.5, "headed": 0.2, "list": 0.12, "figure": 0.1, "table": 0.08}
"""What a column goes on with, by share."""

FULL = 0.75
"""Share of columns that are filled to the foot; the others end anywhere."""

LEAST = 3
"""Lines of the shortest paragraph, and of what is not worth filling."""


@dataclass(frozen=True)
class Pages:
    """Pages of the embedded set.

    Args:
        seed: of all pages.
        max_elements: pages with more are drawn anew.
        misaligned: share of pages whose elements are moved off their guides.
        jitter: standard deviation of what edges are moved by on those pages, in shares of the page's side.

    Raises:
        SettingsError: if an argument is out of its range.
    """

    seed: int = 0
    max_elements: int = 16
    misaligned: float = 0.5
    jitter: float = 0.01

    def __post_init__(self) -> None:
        if self.max_elements < 1:
            raise SettingsError(f"max_elements={self.max_elements}; a page has at least 1 element")
        if not 0 <= self.misaligned <= 1:
            raise SettingsError(f"misaligned={self.misaligned}; it is a share of pages, between 0 and 1")
        if not 0 <= self.jitter <= 0.1:
            raise SettingsError(f"jitter={self.jitter}; it is a share of the page's side, between 0 and 0.1")

    def page(self, index: int) -> Layout:
        """Page number ``index``."""
        rng = np.random.default_rng([self.seed, index])
        while True:
            drawn = _Sheet(rng).filled()
            if 1 <= len(drawn.labels) <= self.max_elements:
                break
        ltrb = np.array(drawn.boxes)
        off = rng.random() < self.misaligned
        moved = rng.normal(0.0, self.jitter, ltrb.shape) if off else np.zeros_like(ltrb)
        boxes = _inside(ltrb + moved, ltrb)
        return Layout(np.array(drawn.labels), boxes, name=f"page-{index}")

    def pages(self, count: int) -> Iterator[Layout]:
        """The first pages."""
        return (self.page(index) for index in range(count))


def _inside(ltrb: np.ndarray, meant: np.ndarray) -> np.ndarray:
    """Centre and size of moved boxes; on the page, and no side less than half of what was meant."""
    low, high = ltrb[:, :2].clip(0, 1), ltrb[:, 2:].clip(0, 1)
    least = (meant[:, 2:] - meant[:, :2]) / 2
    middle = (low + high) / 2
    size = np.maximum(high - low, least)
    middle = middle.clip(size / 2, 1 - size / 2)
    return np.concatenate([middle, size], 1)


@dataclass
class _Sheet:
    """A page that is being filled; boxes are left, top, right, bottom in shares of its sides."""

    rng: np.random.Generator
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def filled(self) -> "_Sheet":
        rng = self.rng
        self.line = rng.uniform(0.014, 0.02)
        left, right = rng.uniform(0.06, 0.13), 1 - rng.uniform(0.06, 0.13)
        top = rng.uniform(0.05, 0.1)
        self.top, self.lines = top, int((1 - rng.uniform(0.05, 0.1) - top) / self.line)
        line = 0
        if rng.random() < 0.5:
            indent = 0.0 if rng.random() < 0.5 else rng.uniform(0.05, 0.2) * (right - left)
            line = self._put(TITLE, (left + indent, right - indent), line, int(rng.integers(2, 5)))
        if rng.random() < 0.2:
            line = self._float((left, right), line, self.lines)
        columns = 1 + int(rng.choice(3, p=COLUMNS))
        gutter = rng.uniform(0.025, 0.05)
        width = (right - left - (columns - 1) * gutter) / columns
        for column in range(columns):
            start = left + column * (width + gutter)
            self._column((start, start + width), line)
        return self

    def _column(self, sides: tuple[float, float], line: int) -> None:
        foot = self.lines if self.rng.random() < FULL else int(self.rng.integers(line + LEAST, self.lines + 1))
        while foot - line >= LEAST:
            block = self.rng.choice(list(BLOCKS), p=list(BLOCKS.values()))
            if block in ("figure", "table"):
                line = self._float(sides, line, foot, TABLE if block == "table" else FIGURE)
                continue
            if block == "headed" and foot - line >= 3 + LEAST:
                end = sides[0] + self.rng.uniform(0.35, 0.95) * (sides[1] - sides[0])
                line = self._put(TITLE, (sides[0], end), line, 1)
            lines = int(self.rng.integers(4, 20))
            if foot - line - lines <= LEAST:  # a rest that no paragraph fills belongs to this one
                lines = foot - line
            if block == "list":
                indent = 0.05 * (sides[1] - sides[0])
                line = self._put(LIST, (sides[0] + indent, sides[1]), line, lines)
            else:
                line = self._put(TEXT, sides, line, lines)

    def _float(self, sides: tuple[float, float], line: int, foot: int, label: int | None = None) -> int:
        """A figure with its caption below, or a table with its caption above; what has no room becomes a paragraph."""
        rng = self.rng
        if label is None:
            label = FIGURE if rng.random() < 0.6 else TABLE
        lines, caption = int(rng.integers(9, 20)), int(rng.integers(1, 4))
        if foot - line < lines + caption + 1:
            return self._put(TEXT, sides, line, foot - line)
        if label == TABLE:
            line = self._put(TEXT, sides, line, caption)
            return self._put(TABLE, sides, line, lines)
        line = self._put(FIGURE, sides, line, lines)
        return self._put(TEXT, sides, line, caption)

    def _put(self, label: int, sides: tuple[float, float], line: int, lines: int) -> int:
        """An element of some lines. Returns the line after it and the blank one that follows."""
        top = self.top + line * self.line
        self.boxes.append((sides[0], top, sides[1], top + lines * self.line))
        self.labels.append(label)
        return line + lines + 1
