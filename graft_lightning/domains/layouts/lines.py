"""Layouts as JSON lines, the format that this package writes: one layout a line.

``{"vocabulary": "publaynet", "name": "...", "labels": ["title", ...], "boxes": [[x, y, width, height], ...]}`` with the
centre x, y, all in shares of the page's sides. A number in place of a label is its index.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from graft_lightning.domains.layouts.inspection import BROKEN_ENTRY, MALFORMED, Element, Inspection
from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.domains.layouts.vocabularies import PUBLAYNET, Vocabulary
from graft_lightning.durable import replacing

DIGITS = 6
"""Decimals of coordinates."""


def line_of(layout: Layout, vocabulary: Vocabulary = PUBLAYNET) -> str:
    """A layout as one line; numbers that are not finite become null."""
    entry = {
        "vocabulary": vocabulary.name,
        "name": layout.name,
        "labels": [vocabulary.labels[label] for label in layout.labels.tolist()],
        "boxes": [[round(x, DIGITS) if abs(x) < float("inf") else None for x in box] for box in layout.boxes.tolist()],
    }
    return json.dumps(entry, ensure_ascii=False, allow_nan=False)


def write_lines(path: Path | str, layouts: Iterable[Layout], vocabulary: Vocabulary = PUBLAYNET) -> None:
    """Writes layouts as a file of JSON lines."""
    with replacing(Path(path)) as temporary, open(temporary, "x", encoding="utf-8") as file:
        for layout in layouts:
            file.write(line_of(layout, vocabulary) + "\n")


def read_lines(lines: Iterable[str], path: object, inspection: Inspection) -> Iterator[Layout]:
    """The layouts of JSON lines; those that cannot be read are counted, and the others go on. Blank lines are none."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        source = f"{path}:{number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            inspection.fault(BROKEN_ENTRY, f"{source}: no whole JSON ({error})")
            continue
        layout = read_entry(entry, source, inspection)
        if layout is not None:
            yield layout


def is_entry(found: Any) -> bool:
    """Whether a JSON value is a layout as `line_of` writes it."""
    return isinstance(found, dict) and {"labels", "boxes"} <= found.keys()


def read_entry(entry: Any, source: str, inspection: Inspection) -> Layout | None:
    """The layout of a JSON value; None, counted, if it is left out."""
    labels, boxes = (entry.get("labels"), entry.get("boxes")) if isinstance(entry, dict) else (None, None)
    if not isinstance(labels, list) or not isinstance(boxes, list) or len(labels) != len(boxes):
        inspection.fault(BROKEN_ENTRY, f"{source}: lists 'labels' and 'boxes' of one length are needed")
        return None
    stated = entry.get("vocabulary", inspection.vocabulary.name)
    if stated != inspection.vocabulary.name:
        inspection.fault(BROKEN_ENTRY, f"{source}: of vocabulary {stated!r}, not {inspection.vocabulary.name!r}")
        return None
    elements: list[Element] = []
    for label, box in zip(labels, boxes, strict=True):
        try:
            x, y, width, height = (float("nan") if side is None else float(side) for side in box)
        except (TypeError, ValueError, OverflowError):
            inspection.fault(MALFORMED, f"{source}: box {str(box)[:80]}")
            continue
        ltrb = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        elements.append((_name(label, inspection.vocabulary), ltrb))
    return inspection.layout(elements, (1.0, 1.0), str(entry.get("name", "")), source, len(elements) < len(labels))


def _name(label: Any, vocabulary: Vocabulary) -> str | None:
    if isinstance(label, int) and not isinstance(label, bool):
        return vocabulary.labels[label] if 0 <= label < len(vocabulary) else str(label)
    return label if isinstance(label, str) else None
