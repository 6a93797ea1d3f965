"""Files of texts as people have them: any Unicode encoding that says which it is, one text a line, or a table."""

import codecs
import csv
import io
import json
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from graft_lightning.domains.base.archives import COMPRESSIONS
from graft_lightning.types import SettingsError

log = logging.getLogger(__name__)

TABLES = {".csv": ",;\t", ".tsv": "\t"}
"""Suffixes of tables, and what may part their fields."""
COLUMNS = ("prompt", "prompts", "caption", "text")
"""Headers of the column of texts, in any case, the first that is there."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; UTF-32's little one starts as UTF-16's does, and comes first."""
_MARK = "\ufeff"
"""A byte order mark, decoded: files that were joined have one at the start of a line."""
_PACKED = (b"PK\3\4", *(magic for magic, _ in COMPRESSIONS.values()))
"""First bytes of archives, spreadsheets among them, and of compressed files."""
_OBJECTS = (".json", ".jsonl", ".ndjson")
"""Suffixes of files whose lines are JSON: texts in quotes, or objects, which are no texts."""


def decoded(content: bytes, path: str | Path) -> str:
    r"""The text of a file, with ``\n`` for every line end (``\r\n`` and ``\r`` too), without byte order marks.

    UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one. Older encodings cannot be told apart: the same
    byte is another letter in each.

    Args:
        content: of the file.
        path: for the error.

    Raises:
        SettingsError: for another encoding; names the file, the place and what to do.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if content.startswith(_PACKED):
            raise SettingsError(f"{path} is an archive, a spreadsheet or a compressed file; save it as text") from None
        if encoding != "utf-8":
            raise SettingsError(f"{path}: damaged {encoding.upper()} at byte {error.start} ({error.reason})") from None
        line = content[: error.start].count(b"\n") + 1
        raise SettingsError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; the file is in an older encoding "
            f"(cp1252, Latin-1?): save it as UTF-8, e.g. `iconv -f cp1252 -t utf-8 {Path(path).name}`"
        ) from None
    if "\0" in text:
        raise SettingsError(f"{path} holds zero bytes: UTF-16 without a byte order mark, or no text; save it as UTF-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.lstrip(_MARK).replace(f"\n{_MARK}", "\n")


def lines(text: str) -> list[str]:
    r"""Lines without surrounding blanks, empty ones dropped.

    Split at ``\n`` alone: `str.splitlines` would also split at separators that occur inside a text (U+2028, U+0085, a
    form feed).
    """
    return [line.strip() for line in text.split("\n") if line.strip()]


def texts_of(content: bytes, path: str | Path, column: str | None = None) -> list[str]:
    """The texts of a file: one a line, or the cells of one column of a table with a header (``.csv``, ``.tsv``).

    In a file of JSON (``.jsonl``) every line is a text in quotes, as `text_lines` writes it, and is kept as it is.

    Args:
        content: of the file.
        path: its name decides what it is.
        column: header of the column of a table; by default the first of `COLUMNS` that is there.

    Raises:
        SettingsError: if there is no text, no such column, or a row that does not fit the header; for objects of
            JSON.
    """
    text = decoded(content, path)
    if Path(path).suffix.lower() in _OBJECTS and column is None:
        found = [_quoted(line, number, path) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    elif Path(path).suffix.lower() in TABLES:
        cells = [row[0].strip() for row in table(text, path, [column or COLUMNS])]
        found = [cell for cell in cells if cell]
        say_blank(path, len(cells) - len(found))
    elif column is not None:
        raise SettingsError(f"{path}: column={column!r} is that of a table; {' and '.join(TABLES)} are tables")
    else:
        found = lines(text)
    if not found:
        raise SettingsError(f"{path} is empty: it holds no text")
    return found


def say_blank(path: str | Path, count: int) -> None:
    """Says how many rows or objects of a file are left out, as their text is blank; nothing where none is."""
    if count:
        log.warning("%s: %d left out whose text is blank", path, count)


def text_lines(texts: Iterable[str]) -> str:
    """What a ``.jsonl`` file of texts holds, one in quotes a line: `texts_of` reads every text as it is.

    A plain line could not hold a text with a line end in it, an empty one, or the blanks around one.
    """
    return "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)


def _quoted(line: str, number: int, path: str | Path) -> str:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, str):
        raise SettingsError(
            f'{path}, line {number}: lines of JSON are no texts, unless each is one in "quotes"; name the class that '
            "reads them (JSONLines for prompts), or write one text a line into a .txt"
        )
    return found


def table(text: str, path: str | Path, columns: Sequence[str | Sequence[str]]) -> list[list[str]]:
    """Cells of some columns of a table, by row.

    Args:
        text: of the file; its first row is the header.
        path: for the error; its suffix says what parts the fields.
        columns: header of each column, or several of which the first that is there is taken.

    Raises:
        SettingsError: if a column is not there, or a row does not fit the header.
    """
    header, rows = whole_table(text, path)
    places = [_place(header, wanted, path) for wanted in columns]
    return [[row[place] for place in places] for _, row in rows]


def whole_table(text: str, path: str | Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a table, and its rows with the numbers of their lines; arguments and errors as of `table`."""
    if not text.strip():
        raise SettingsError(f"{path} is empty: it holds no text")
    parted = parted_by(text, path)
    rows = [row for row in _rows(text, parted, path) if any(cell.strip() for cell in row[1])]
    header = [cell.strip() for cell in rows[0][1]]
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise SettingsError(
                f"{path}, line {line}: {len(row)} fields, but the header has {len(header)} ({', '.join(header)}); "
                'a text with a separator in it must stand in "quotes"'
            )
    return header, rows[1:]


def parted_by(text: str, path: str | Path, separators: str | None = None) -> str:
    """What parts the fields of a table: the separator that its header has most often outside quotes.

    Args:
        text: of the file.
        path: its suffix says which separators there may be.
        separators: that there may be, in place of the suffix's; of equally many the first is taken.
    """
    allowed = separators or TABLES.get(Path(path).suffix.lower(), ",")
    quoted = re.compile(rf'(?:^|(?<=[{re.escape(allowed)}\n]))"[^"]*(?:""[^"]*)*"(?=[{re.escape(allowed)}\n]|$)')
    head = quoted.sub("", text.lstrip()).split("\n", 1)[0]
    return max(allowed, key=head.count)


def _rows(text: str, parted: str, path: str | Path) -> list[tuple[int, list[str]]]:
    """Rows with the number of their last line."""
    if parted == "\t":
        return _tabbed(text, path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=parted, strict=True)
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise SettingsError(f"{path}: not a table of fields parted by {parted!r} ({error})") from None


_WHOLE = re.compile(r'"([^"]*(?:""[^"]*)*)"(?=[\t\n]|\Z)')
_PLAIN = re.compile(r"[^\t\n]*")


def _tabbed(text: str, path: str | Path) -> list[tuple[int, list[str]]]:
    """Rows of fields that tabs part, of which those that stand whole in quotes lose them.

    Many such files quote nothing and hold quotes, so that every field is judged by itself: one with quotes inside, or
    with a quote that nothing closes, is what it is.
    """
    rows: list[tuple[int, list[str]]] = []
    row: list[str] = []
    line, place, limit = 1, 0, csv.field_size_limit()
    while place <= len(text):
        whole = _WHOLE.match(text, place)
        found = whole or _PLAIN.match(text, place)
        assert found is not None  # nothing at all is a plain field too
        cell = whole[1].replace('""', '"') if whole else found[0]
        over = cell.count("\n")
        if over and "\t" in cell:
            raise SettingsError(
                f"{path}, line {line}: a quote opens a field that the next one closes in line {line + over}, with tabs "
                f"between, so that this is one text ({_short(cell)}) or several rows; if several, write "
                '"""… for a text that starts with a quote: all in quotes, its own ones twice'
            )
        if len(cell) > limit:
            raise SettingsError(
                f"{path}, line {line}: not a table of fields parted by tabs (field larger than field limit ({limit}))"
            )
        row.append(cell)
        line += over
        place = found.end()
        if text[place : place + 1] != "\t":
            rows.append((line, row))
            row, line = [], line + 1
        place += 1
    return rows


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _place(header: list[str], wanted: str | Sequence[str], path: str | Path) -> int:
    names = [wanted] if isinstance(wanted, str) else wanted
    lowered = [name.lower() for name in header]
    for name in names:
        if lowered.count(name.lower()) > 1:
            raise SettingsError(f"{path} has several columns {name!r}: {', '.join(header)}; give each its own name")
        if name.lower() in lowered:
            return lowered.index(name.lower())
    raise SettingsError(
        f"{path} has no column {' or '.join(map(repr, names))} in its first row, which is {', '.join(header)}; "
        "a table needs a header, and `column` says which one holds the texts"
    )
