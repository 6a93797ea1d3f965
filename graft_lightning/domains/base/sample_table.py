"""Tables of samples that somebody has drawn and scored: a file a sample, what it was drawn for, and its scores.

A table is a ``.csv`` or ``.tsv`` with a header, or a ``.jsonl`` with an object a line; a folder is the one table in it.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graft_lightning.domains.base.cells import AmbiguousNumber, has_decimal_commas, number_in
from graft_lightning.domains.base.text_files import TABLES, decoded, parted_by, whole_table
from graft_lightning.types import SettingsError

NAMES = ("table.csv", "metadata.csv", "metadata.jsonl", "samples.csv", "samples.jsonl")
"""What the table in a folder may be called: `pool --export` writes the first, folders of images for others the next."""
FILES = ("file", "file_name", "path", "image")
CONDITIONS = ("condition", "prompt", "prompts", "text", "caption")
"""Headers of the two columns, in any case, the first that is there."""
LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Row:
    """One sample of a table.

    Attributes:
        line: where it stands.
        file: whose path is relative to the table's folder, made absolute.
        condition: that it was drawn for, as the cell has it: outer blanks may belong to it.
        scores: by name; NaN where a cell is empty or no finite number.
        unread: by name, what is wrong with the cells that hold something and no finite number.
    """

    line: int
    file: Path
    condition: str
    scores: Mapping[str, float]
    unread: Mapping[str, str] = field(default_factory=dict)


def table_in(path: Path) -> Path:
    """The table that a path names: a file, or the one in a folder.

    Raises:
        SettingsError: if there is none, or several.
    """
    if path.is_file():
        if path.suffix.lower() not in (*TABLES, *LINES):
            raise SettingsError(f"{path} is no table of samples; {', '.join((*TABLES, *LINES))} are")
        return path
    if not path.is_dir():
        raise SettingsError(f"{path}: there is neither such a table nor such a folder")
    found = [path / name for name in NAMES if (path / name).is_file()]
    if len(found) != 1:
        has = " and ".join(file.name for file in found) or "none of them"
        raise SettingsError(f"{path} should hold one table of its samples ({', '.join(NAMES)}), and has {has}; name it")
    return found[0]


def rows_in(
    table: Path, rewards: Mapping[str, str], file: str | None = None, condition: str | None = None
) -> list[Row]:
    """The samples of a table.

    Args:
        table: the file.
        rewards: header of the column of each reward's scores, by the name that the reward gets.
        file: header of the column of files; by default the first of `FILES` that is there.
        condition: of what samples were drawn for; by default the first of `CONDITIONS` that is there, and without one
            every sample was drawn for "", as unconditional models draw them.

    Raises:
        SettingsError: if the table cannot be read, lacks a column, or holds no sample, or a score that may be two
            numbers; names the file, and the line.
    """
    text = decoded(table.read_bytes(), table)
    in_lines = table.suffix.lower() in LINES
    header, rows = _of_lines(text, table) if in_lines else _of_cells(text, table)
    files = _column(header, [file] if file else FILES, table)
    known = [name.lower() for name in header]
    named = [condition] if condition else [name for name in CONDITIONS if name in known]
    texts = _column(header, named, table) if named else ""
    scored = {name: _column(header, [column], table) for name, column in rewards.items()}
    if not rows:
        raise SettingsError(f"{table} holds no sample; a row a sample is needed below its header")
    found = []
    apart = in_lines or parted_by(text, table) != ","
    commas = {one: apart and has_decimal_commas(cells.get(one) for _, cells in rows) for one in scored.values()}
    for line, cells in rows:
        scores, unread = {}, {}
        for name, column in scored.items():
            try:
                value = number_in(cells.get(column), f"{table}, line {line}: {column}", commas[column])
            except AmbiguousNumber:
                raise
            except SettingsError:
                unread[name] = f"{column} is {str(cells[column]).strip()!r}"
                value = None
            scores[name] = math.nan if value is None else value
        name = _text(cells.get(files)).strip()
        found.append(Row(line, table.absolute().parent / name, _text(cells.get(texts)), scores, unread))
    return found


class Matching:
    """Which condition a cell names: the very text, or the only one that differs from it in outer blanks alone.

    Benchmarks keep prompts byte for byte, some with an outer blank; spreadsheets and people add and lose such blanks.

    Args:
        conditions: that there are.
    """

    def __init__(self, conditions: Iterable[str]) -> None:
        self.known = set(conditions)
        self.stripped: dict[str, list[str]] = {}
        for text in self.known:
            self.stripped.setdefault(text.strip(), []).append(text)

    def __call__(self, cell: str) -> str | None:
        """The condition; None if no condition, or several, can be meant."""
        if cell in self.known:
            return cell
        alike = self.stripped.get(cell.strip(), [])
        return alike[0] if len(alike) == 1 else None


def _text(cell: Any) -> str:
    """What a cell says; a class that is called 0 is a text as any other."""
    return "" if cell is None else str(cell)


def _of_cells(text: str, table: Path) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    header, rows = whole_table(text, table)
    return header, [(line, dict(zip(header, row, strict=True))) for line, row in rows]


def _of_lines(text: str, table: Path) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    rows: list[tuple[int, dict[str, Any]]] = []
    for line, one in enumerate(text.split("\n"), 1):
        if not one.strip():
            continue
        try:
            found = json.loads(one)
        except ValueError as error:
            raise SettingsError(f"{table}, line {line}: it cannot be read as JSON ({error})") from None
        if not isinstance(found, dict):
            raise SettingsError(f"{table}, line {line}: it holds {type(found).__name__}; an object a line is needed")
        rows.append((line, found))
    return list(dict.fromkeys(name for _, row in rows for name in row)), rows


def _column(header: Sequence[str], names: Sequence[str], table: Path) -> str:
    for name in names:
        if header.count(name) == 1:
            return name
        alike = [column for column in header if column.lower() == name.lower()]
        if len(alike) == 1:
            return alike[0]
    raise SettingsError(
        f"{table} should have one column {' or '.join(names)}; its columns are {', '.join(header) or 'none'}"
    )
