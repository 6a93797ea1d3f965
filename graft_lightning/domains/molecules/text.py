"""Words and lines as programs of chemistry write them."""

import codecs
import re
from collections.abc import Iterator
from typing import IO

_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

_EXPONENT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:(?:[DdQq]|\*\^)([+-]?\d+)|([+-]\d+))")
"""Mantissa and exponent that Python does not read: after Fortran's d or q, ``*^``, or its own sign alone."""


def text_lines(stream: IO[bytes]) -> Iterator[str]:
    """The lines of a text: UTF-8, or UTF-16 where a byte order mark tells so; any line ends."""
    # Not a TextIOWrapper: that asks whether it may seek, which a member of a streamed archive cannot answer.
    first = stream.readline()
    for mark, encoding in _MARKS:
        if first.startswith(mark):
            for line in (first + stream.read()).decode(encoding, "replace").split("\n"):
                yield from _parted(line)
            return
    first = first.removeprefix(codecs.BOM_UTF8)
    if first:
        yield from _parted(first.decode("utf-8", "replace"))
    for raw in stream:
        yield from _parted(raw.decode("utf-8", "replace"))


def _parted(line: str) -> list[str]:
    """Lines that end as on a Mac of old have no newline between them."""
    line = line.rstrip("\r\n\x1a")  # the last is the end of a file of DOS
    return line.split("\r") if "\r" in line else [line]


def number(word: str) -> float:
    """A number as C, Fortran or Mathematica writes it; nan and inf are numbers too.

    Raises:
        ValueError: if it is none.
    """
    if "_" in word or not word.isascii():  # Python's own notions
        raise ValueError(f"{word!r} is no number")
    try:
        return float(word)
    except ValueError:
        found = _EXPONENT.fullmatch(word)
        if found is None:
            raise ValueError(f"{word!r} is no number") from None
        mantissa, marked, bare = found.groups()
        return float(f"{mantissa}e{marked or bare}")
