"""COCO's JSON, as PubLayNet has it, read as a stream: of a file of gigabytes only the boxes stay in memory.

The lists ``images``, ``annotations`` and ``categories`` may stand in any order. What outlines and texts the annotations
hold is parsed and forgotten: 1 GB of two million annotations took 280 MiB and a minute and a half of one CPU core.
"""

import hashlib
import re
from array import array
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

from graft_lightning.domains.layouts.format_error import FormatError
from graft_lightning.domains.layouts.inspection import (
    BROKEN_ENTRY,
    DUPLICATE,
    DUPLICATE_PAGE,
    MALFORMED,
    NO_PAGE,
    Element,
    Inspection,
)
from graft_lightning.domains.layouts.layout import Layout

CHUNK = 1 << 16
"""Bytes that are read and parsed at a time."""

HELD = 16
"""Bytes at the end of a chunk that wait for the next one: a word may have been cut."""

WITHOUT = -1
"""In place of the id of an annotation that has none."""

OF_TEXTS = -(2**62)
"""Below stand the ids of annotations that are texts."""

NO_NUMBER = re.compile(rb"(?<=[\[,:\s])[-+]?(?:NaN|Infinity|nan|inf)(?=[\],}\s])")
"""What Python and JavaScript write for numbers that are none, and JSON does not know."""

QUOTED_OR_NO_NUMBER = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*"?)|' + NO_NUMBER.pattern, re.DOTALL)
"""The first group is what stands in quotes, as far as it goes."""


def read_coco(stream: IO[bytes], path: object, inspection: Inspection) -> Iterator[Layout]:
    """The pages of a COCO file, in the order of their ids.

    Args:
        stream: of the file.
        path: for messages.
        inspection: judges what is found.

    Raises:
        FormatError: if the file is no JSON, was cut short, or lists no images.
    """
    pages, boxes = _Pages(path, inspection), _Boxes(path, inspection)
    categories: dict[int, str] = {}

    def category(entry: Any) -> None:
        try:
            categories[_identifier(entry["id"])] = str(entry.get("name"))
        except (KeyError, TypeError, ValueError, OverflowError):
            return  # its elements are of a category that is unknown, and count as such

    _parsed(stream, path, {"images": pages.add, "annotations": boxes.add, "categories": category})
    if pages.no_number and not pages.found:
        raise FormatError(
            path,
            f"the id of an image is {pages.no_number[:80]!r}; ids of images, and the annotations' image_id, should be "
            "integers",
        )
    if not pages.given:
        raise FormatError(path, "no COCO file: it lists no 'images', with an id, a width and a height each")
    yield from boxes.layouts(pages.found, categories)


def _parsed(stream: IO[bytes], path: object, lists: dict[str, Callable[[Any], None]]) -> None:
    """Gives every entry of the lists of the outermost object to a function.

    Raises:
        FormatError: as `read_coco`.
    """
    import ijson

    parsers = [ijson.items_coro(_Sink(take), f"{name}.item", use_float=True) for name, take in lists.items()]
    try:
        for piece in _without_no_numbers(stream):
            for parser in parsers:
                parser.send(piece)
        for parser in parsers:
            parser.close()
    except ijson.JSONError as error:
        what = " ".join(str(error).split("\n")[0].split())
        raise FormatError(path, f"no whole JSON ({what}): damaged or cut short; get it again") from None


class _Sink:
    """What ijson's parsers send their findings to."""

    def __init__(self, take: Callable[[Any], None]) -> None:
        self.send = take

    def close(self) -> None:
        """Nothing is left to do."""


def _without_no_numbers(stream: IO[bytes]) -> Iterator[bytes]:
    """The pieces of a JSON text with null for NaN and infinity, which parsers refuse together with the whole file.

    What stands in quotes is left as it is.
    """
    held, quoted = b"", False
    while piece := stream.read(CHUNK):
        piece = _with_null(held + piece, quoted)
        cut = max(len(piece) - HELD, 0)
        cut = len(piece[:cut].rstrip(b"\\"))  # a backslash stays with what it stands before
        piece, held = piece[:cut], piece[cut:]
        quoted ^= piece.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"') % 2 == 1
        if piece:
            yield piece
    yield held


def _with_null(piece: bytes, quoted: bool) -> bytes:
    """A piece of a JSON text with null for numbers that are none.

    Args:
        piece: of the text.
        quoted: whether it begins within quotes.
    """
    # Words are looked for first, for that is fast, and quotes only where one seems to stand for a number.
    if not any(word in piece for word in (b"NaN", b"Inf", b"nan", b"inf")) or NO_NUMBER.search(piece) is None:
        return piece
    whole = b'"' + piece if quoted else piece
    found = QUOTED_OR_NO_NUMBER.sub(lambda match: b"null" if match[1] is None else match[1], whole)
    return found[1:] if quoted else found


def _identifier(value: Any) -> int:
    """A whole number that eight bytes hold, also where it is written 1.0 or "1".

    Raises:
        ValueError: if it is none; TypeError and OverflowError likewise.
    """
    number = int(value)
    if (isinstance(value, float) and number != value) or not -(2**63) <= number < 2**63:
        raise ValueError(f"{value!r} is no identifier")
    return number


def _own_identifier(value: Any) -> int:
    """What tells an annotation from others: its id, `WITHOUT` for none, a number below `OF_TEXTS` for a text."""
    if value is None:
        return WITHOUT
    try:
        return _identifier(value)
    except (TypeError, ValueError, OverflowError):
        # A digest, for millions of texts would fill the memory: two of these are alike in one of two million files.
        digest = hashlib.blake2b(str(value).encode("utf-8", "replace"), digest_size=8).digest()
        return OF_TEXTS - 1 - (int.from_bytes(digest, "little") >> 2)


class _Pages:
    """The entries of ``images``: id to width, height, name.

    Attributes:
        found: the pages that can be read.
        given: how many entries there are.
        no_number: the first id that is a text and no number.
    """

    def __init__(self, path: object, inspection: Inspection) -> None:
        self.found: dict[int, tuple[float, float, str]] = {}
        self.given = 0
        self.no_number = ""
        self._path, self._inspection = path, inspection

    def add(self, entry: Any) -> None:
        self.given += 1
        wanted = ", whose id should be an integer"
        try:
            number = _identifier(entry["id"])
            wanted = ""
            size = float(entry["width"]), float(entry["height"])
        except (KeyError, TypeError, ValueError, OverflowError):
            if wanted and isinstance(entry, dict) and isinstance(entry.get("id"), str):
                self.no_number = self.no_number or entry["id"]
            self._inspection.fault(BROKEN_ENTRY, f"{self._path}: image {str(entry)[:80]}{wanted}")
            return
        if number in self.found:
            self._inspection.fault(DUPLICATE_PAGE, f"{self._path}: image {number}")
            return
        self.found[number] = (*size, str(entry.get("file_name", number)))


class _Boxes:
    """The entries of ``annotations``, as columns of numbers."""

    def __init__(self, path: object, inspection: Inspection) -> None:
        self._page, self._category, self._id = array("q"), array("q"), array("q")
        self._ltrb = array("d")
        self._path, self._inspection = path, inspection

    def add(self, entry: Any) -> None:
        try:
            page, category = _identifier(entry["image_id"]), _identifier(entry["category_id"])
            number = _own_identifier(entry.get("id"))
            box = [float("nan") if side is None else float(side) for side in entry["bbox"]]
            left, top, width, height = box
        except (KeyError, TypeError, ValueError, OverflowError):
            self._inspection.fault(MALFORMED, f"{self._path}: annotation {str(entry)[:80]}")
            return
        self._page.append(page)
        self._category.append(category)
        self._id.append(number)
        self._ltrb.extend((left, top, left + width, top + height))

    def layouts(self, pages: dict[int, tuple[float, float, str]], categories: dict[int, str]) -> Iterator[Layout]:
        """Page by page."""
        page, category = np.frombuffer(self._page, np.int64), np.frombuffer(self._category, np.int64)
        ltrb = np.frombuffer(self._ltrb, np.float64).reshape(-1, 4)
        kept = self._kept(page, np.frombuffer(self._id, np.int64), pages)
        order = kept[np.argsort(page[kept], kind="stable")]
        of_page = page[order]
        dropped = set(np.delete(page, kept).tolist())
        for number in sorted(pages):
            width, height, name = pages[number]
            start, stop = np.searchsorted(of_page, [number, number + 1])
            mine = order[start:stop]
            elements: list[Element] = [
                (categories.get(kind, f"category {kind}"), box)
                for kind, box in zip(category[mine].tolist(), ltrb[mine].tolist(), strict=True)
            ]
            found = self._inspection.layout(elements, (width, height), name, f"{self._path}", number in dropped)
            if found is not None:
                yield found

    def _kept(self, page: np.ndarray, ids: np.ndarray, pages: dict[int, Any]) -> np.ndarray:
        """Places of the annotations whose id is new and whose page is there, in the order of the file."""
        first = np.zeros(len(ids), bool)
        first[np.unique(ids, return_index=True)[1]] = True
        first |= ids == WITHOUT
        known = np.isin(page, np.fromiter(pages, np.int64, len(pages)))
        for kind, wrong, what in ((DUPLICATE, ~first, ids), (NO_PAGE, first & ~known, page)):
            if wrong.any():
                place = wrong.argmax()
                where = f"{'annotation' if kind == DUPLICATE else 'image'} {what[place]}"
                if what is ids and ids[place] < OF_TEXTS:
                    where = f"an annotation of image {page[place]}, whose id is a text"
                self._inspection.fault(kind, f"{self._path}: {where}", int(wrong.sum()))
        return np.flatnonzero(first & known)
