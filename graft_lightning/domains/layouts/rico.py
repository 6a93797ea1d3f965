"""Rico's screens: the trees of its semantic annotations, and the lines of text that LayoutFormer++ made of them.

A tree is a JSON object with ``bounds`` [left, top, right, bottom] in pixels, whose ``children`` have bounds, a
``componentLabel`` and further children; the outermost one is the screen. A line is ``Label l t r b | Label l t r b``
with integers 0 .. 127, rounded down: thin elements have lost their width or height there, and count as such.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from graft_lightning.domains.layouts.inspection import BROKEN_ENTRY, MALFORMED, Element, Inspection
from graft_lightning.domains.layouts.layout import Layout

LAST = 127
"""The last of the 128 bins."""

ELEMENT = re.compile(r"(\S.*?)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)")

DEEPEST = 10_000
"""Elements of a tree that are looked at; a screen has some hundred."""


def is_tree(found: Any) -> bool:
    """Whether a JSON value is one of Rico's trees."""
    return isinstance(found, dict) and "bounds" in found and ("children" in found or "componentLabel" in found)


def read_tree(found: dict[str, Any], source: str, inspection: Inspection) -> Layout | None:
    """The screen of a tree; None, counted, if it is left out."""
    bounds = _bounds(found)
    if bounds is None:
        inspection.fault(BROKEN_ENTRY, f"{source}: bounds {str(found.get('bounds'))[:80]} of the screen")
        return None
    elements: list[Element] = []
    malformed = 0
    pending = _children(found)
    for _ in range(DEEPEST):
        if not pending:
            break
        element = pending.pop()
        pending += _children(element)
        ltrb = _bounds(element)
        if ltrb is None:
            malformed += 1
            inspection.fault(MALFORMED, f"{source}: {str(element)[:80]}")
            continue
        label = element.get("componentLabel")
        elements.append((label if isinstance(label, str) else None, ltrb))
    left, top, right, bottom = bounds
    return inspection.layout(elements, (right - left, bottom - top), "", source, malformed > 0, (left, top))


def _children(element: Any) -> list[Any]:
    """The last one first."""
    found = element.get("children") if isinstance(element, dict) else None
    return found[::-1] if isinstance(found, list) else []


def _bounds(element: Any) -> list[float] | None:
    try:
        left, top, right, bottom = (float("nan") if edge is None else float(edge) for edge in element["bounds"])
    except (KeyError, TypeError, ValueError):
        return None
    return [left, top, right, bottom]


def labels_of_line(line: str) -> list[str]:
    """The labels of the elements in a line of text; none in a line of something else."""
    found = [ELEMENT.fullmatch(text.strip()) for text in line.split("|")]
    return [element[1] for element in found if element is not None and all(map(_is_number, element.groups()[1:]))]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def read_text(lines: Iterable[str], path: object, inspection: Inspection) -> Iterator[Layout]:
    """The layouts of lines; blank ones are layouts without an element, and count as such."""
    for number, line in enumerate(lines, start=1):
        source = f"{path}:{number}"
        elements: list[Element] = []
        texts = [text.strip() for text in line.split("|")] if line.strip() else []
        for text in texts:
            found = ELEMENT.fullmatch(text)
            try:
                if found is None:
                    raise ValueError(text)
                elements.append((found[1], [float(word) for word in found.groups()[1:]]))
            except ValueError:
                inspection.fault(MALFORMED, f"{source}: {text[:80]!r}, not 'Label left top right bottom'")
        layout = inspection.layout(elements, (LAST, LAST), "", source, len(elements) < len(texts))
        if layout is not None:
            yield layout
