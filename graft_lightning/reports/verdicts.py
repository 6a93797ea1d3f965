"""What a person says of the samples of a pool, read from what people have: a folder, or a table."""

import csv
import io
import json
from collections import Counter
from collections.abc import Container
from pathlib import Path

from graft_lightning.domains.base.cells import AmbiguousNumber, has_decimal_commas, number_in
from graft_lightning.domains.base.listing import by_suffix, files_below
from graft_lightning.domains.base.text_files import decoded, parted_by
from graft_lightning.reports.pool_samples import EXPORTED, TABLE, ids_in
from graft_lightning.types import SettingsError

SHOWN = 3
"""Names that a message lists."""
SEPARATORS = ";\t,"
"""What may part the fields of a table: the one that its first row has most often outside quotes."""


def verdicts_of_folder(folder: Path, pool: str) -> tuple[dict[str, float], list[str]]:
    """What is left of an export: 1 for a sample whose files are all there, 0 for one of which any was deleted.

    A sample is known by the id in its file's name, in whatever folder below; copies count once. Hidden files and the
    table are passed by, others too if they are of another kind than samples.

    Args:
        folder: that `export_samples` wrote.
        pool: digest of the pool that is judged.

    Returns:
        Verdicts by id, and lines about what was passed by.

    Raises:
        SettingsError: if it is no export of this pool, holds samples that cannot be told, or says nothing.
    """
    try:
        exported = json.loads((folder / EXPORTED).read_text(encoding="utf-8"))
        counts: dict[str, int] = exported["files"]
        own, suffixes = exported["pool"], exported["suffixes"]
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(
            f"{folder} lacks {EXPORTED}, or it cannot be read: `pool FOLDER --export` writes it, and it says which "
            "samples there were; keep it in the folder, or give a table of id and score"
        ) from None
    if own != pool:
        raise SettingsError(f"{folder} was exported from another pool")
    there: set[tuple[str, str]] = set()
    nameless: list[str] = []
    foreign: list[str] = []
    other: list[str] = []
    for name in files_below(folder):
        file = Path(name).name
        if file in (EXPORTED, TABLE):
            continue
        found = ids_in(file)
        if not found:
            (nameless if Path(file).suffix in suffixes else other).append(name)
        elif any(one not in counts for one in found):
            foreign.append(name)
        else:
            there.update((one, Path(file).suffix) for one in found)
    if nameless:
        raise SettingsError(
            f"{folder}: the names of {len(nameless)} files hold no id ({_some(nameless)}); name them as they were, or "
            "take them out: a sample whose name is lost would count as deleted"
        )
    if foreign:
        raise SettingsError(
            f"{folder}: {len(foreign)} files are of no sample that was exported here ({_some(foreign)})"
        )
    left = Counter(one for one, _ in there)
    verdicts = {one: float(left[one] >= number) for one, number in counts.items()}
    if len(set(verdicts.values())) < 2:
        what = "none was deleted" if all(verdicts.values()) else "all were deleted"
        raise SettingsError(f"{folder}: of {len(verdicts)} samples {what}; there is nothing to choose by")
    return verdicts, [f"passed by: {by_suffix(other)}"] if other else []


def verdicts_of_table(
    file: Path, known: Container[str], column: str | None = None
) -> tuple[dict[str, float], list[str]]:
    """Scores from a table with a header, one of whose columns is ``id``.

    Fields are parted by semicolons, tabs or commas. A decimal comma is read where it cannot be anything else: 0,5 can
    not, and 1,250 can, unless commas part no fields and the column has such a 0,5 too. An empty cell, like a row that
    is not there, is no verdict.

    Args:
        file: in UTF-8, with or without a byte order mark.
        known: ids of the pool.
        column: header of the scores; ``score`` by default, or the only column beside ``id``.

    Returns:
        Verdicts by id, and lines about what was left out.

    Raises:
        SettingsError: naming the line, if a row cannot be read, an id is unknown, or has two scores that differ.
    """
    text = decoded(file.read_bytes(), file)
    parted = parted_by(text, file, SEPARATORS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=parted, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise SettingsError(
            f"{file}, line {reader.line_num}: no table of fields parted by {parted!r} ({error})"
        ) from None
    if not rows:
        raise SettingsError(f"{file} is empty; it needs the header id,score and a row a sample")
    header = [name.lower() for name in rows[0][1]]
    places = _place(header, "id", file), _score_place(header, column, file)
    commas = parted != "," and has_decimal_commas(row[places[1]] for _, row in rows[1:] if len(row) == len(header))
    found: dict[str, tuple[float, int]] = {}
    empty = 0
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise SettingsError(
                f"{file}, line {line}: {len(row)} fields, but the header has {len(header)}; a comma inside a field "
                'must stand in "quotes", or the fields be parted by semicolons'
            )
        one, cell = row[places[0]], row[places[1]]
        if one not in known:
            raise SettingsError(
                f"{file}, line {line}: id {one!r} is not of this pool; `pool FOLDER --table` lists its ids"
            )
        try:
            score = number_in(cell, f"{file}, line {line}: score", commas)
        except AmbiguousNumber:
            raise
        except SettingsError as error:
            raise SettingsError(f"{error}; 1 keeps a sample and 0 does not, or any scale") from None
        empty += score is None
        if score is None:
            continue
        before = found.setdefault(one, (score, line))
        if before[0] != score:
            raise SettingsError(
                f"{file}, line {line}: id {one} has the score {score:g}, and {before[0]:g} in line {before[1]}"
            )
    if not found:
        raise SettingsError(f"{file}: no row has a score in the column {header[places[1]]!r}")
    told = [f"{empty} rows without a score are no verdict"] if empty else []
    return {one: score for one, (score, _) in found.items()}, told


def _place(header: list[str], name: str, file: Path) -> int:
    if header.count(name) != 1:
        raise SettingsError(
            f"{file}: its first row is {', '.join(header)}, with {header.count(name)} columns {name!r}; it must be a "
            "header with one, as in id,score"
        )
    return header.index(name)


def _score_place(header: list[str], column: str | None, file: Path) -> int:
    if column is None and "score" not in header and len(header) == 2:
        return 1 - header.index("id")
    return _place(header, (column or "score").lower(), file)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
