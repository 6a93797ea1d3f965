"""Magazine's XML: one page a file, elements as polygons.

``size/width`` and ``size/height`` are those of the page; every ``layout/element`` has a ``label`` and lists of numbers
``polygon_x`` and ``polygon_y``, as attributes or as elements of their own. An element's box is what its polygon spans.

References:
    ACM Trans. Graph. 38, 133 (2019).
"""

from typing import IO
from xml.etree import ElementTree

from graft_lightning.domains.layouts.format_error import FormatError
from graft_lightning.domains.layouts.inspection import MALFORMED, Element, Inspection
from graft_lightning.domains.layouts.layout import Layout


def read_magazine(stream: IO[bytes], path: object, inspection: Inspection) -> Layout | None:
    """The page of a file; None, counted, if it is left out.

    Raises:
        FormatError: if it is no XML, or states no size.
    """
    text = stream.read()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise FormatError(path, "XML with definitions of its own, which pages have no use for and are not expanded")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise FormatError(path, f"no whole XML ({error}): damaged or cut short") from None
    size = [_number(root.findtext(f"size/{side}")) for side in ("width", "height")]
    if root.find("size") is None:
        raise FormatError(path, "no page of Magazine: it has no 'size'")
    elements: list[Element] = []
    malformed = 0
    for found in root.iterfind("layout/element"):
        xs, ys = _numbers(found, "polygon_x"), _numbers(found, "polygon_y")
        if not xs or not ys:
            malformed += 1
            inspection.fault(MALFORMED, f"{path}: {ElementTree.tostring(found, 'unicode')[:80]}")
            continue
        elements.append((_text(found, "label"), [min(xs), min(ys), max(xs), max(ys)]))
    return inspection.layout(elements, (size[0], size[1]), "", f"{path}", malformed > 0)


def _text(element: ElementTree.Element, name: str) -> str | None:
    return element.get(name) if element.get(name) is not None else element.findtext(name)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _numbers(element: ElementTree.Element, name: str) -> list[float]:
    """The numbers of a list; none if one of them cannot be read."""
    try:
        return [float(word) for word in (_text(element, name) or "").replace(",", " ").split()]
    except ValueError:
        return []
