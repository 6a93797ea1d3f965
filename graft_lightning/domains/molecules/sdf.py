"""Reading and writing SDF: elements and positions, V2000 and V3000.

Bonds in the file are not read: every molecule is judged by the same rule, from its geometry. Kept by hand because RDKit
refuses molecules whose valences are impossible, which samples of a generative model have and which are to be counted.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.perception import perceive
from graft_lightning.domains.molecules.periodic_table import symbol_of
from graft_lightning.domains.molecules.text import number
from graft_lightning.durable import replacing

COUNTS_LINE = 3
"""Index of the counts line in a record: after title, program and comment."""


def read_sdf(lines: Iterable[str], path: object) -> Iterator[Molecule]:
    """The records of an SD file (or the one molecule of a mol file), one after the other.

    Args:
        lines: of the file.
        path: for messages.

    Raises:
        FormatError: naming file and line, if a record is cut short or a field cannot be read.
    """
    for found in sdf_records(lines, path):
        if isinstance(found, FormatError):
            raise found
        yield found


def sdf_records(lines: Iterable[str], path: object) -> Iterator[Molecule | FormatError]:
    """As `read_sdf`, but what is wrong with a record stands in its place, and the next one follows."""
    record: list[str] = []
    start = 1
    for at, line in enumerate(lines, start=1):
        if line.startswith("$$$$"):
            yield _molecule_or_error(record, path, start)
            record, start = [], at + 1
        else:
            record.append(line.rstrip("\r\n"))
    if any(line.strip() for line in record):
        yield _molecule_or_error(record, path, start)


def _molecule_or_error(record: list[str], path: object, start: int) -> Molecule | FormatError:
    try:
        return _molecule(record, path, start)
    except FormatError as error:
        return error


def write_sdf(path: Path | str, molecules: Iterable[Molecule]) -> None:
    """Writes molecules as V2000 records with the bonds of EDM's rule, the name as title, the properties as data items.

    Raises:
        ValueError: if a molecule has more than 999 atoms, which V2000 cannot say, or an element without bond rule.
    """
    with replacing(Path(path)) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for molecule in molecules:
            file.write(_record(molecule))


def _record(molecule: Molecule) -> str:
    bonds = perceive([molecule])[0].bonds
    if len(molecule.symbols) > 999 or len(bonds) > 999:
        raise ValueError(
            f"{molecule.name or 'a molecule'} has {len(molecule.symbols)} atoms and {len(bonds)} bonds; "
            "a V2000 record holds at most 999 of each"
        )
    out = [" ".join(molecule.name.split()), "  graft_lightning", ""]
    out.append(f"{len(molecule.symbols):3d}{len(bonds):3d}  0  0  0  0  0  0  0  0999 V2000")
    for symbol, (x, y, z) in zip(molecule.symbols, molecule.positions, strict=True):
        out.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0" + "  0" * 11)
    out += [f"{i + 1:3d}{j + 1:3d}{order:3d}  0  0  0  0" for i, j, order in bonds]
    out.append("M  END")
    for key, value in molecule.properties.items():
        out += [f">  <{key}>", f"{value:g}", ""]
    return "\n".join([*out, "$$$$", ""])


def _molecule(record: list[str], path: object, start: int) -> Molecule:
    """One record; ``start`` is the number of its first line."""
    if len(record) <= COUNTS_LINE:
        raise FormatError(path, start, f"a record of {len(record)} lines; it should have a counts line as its fourth")
    at = start + COUNTS_LINE
    symbols, positions = (_atoms_v3000 if "V3000" in record[COUNTS_LINE] else _atoms_v2000)(record, path, start)
    if not symbols:
        raise FormatError(path, at, "a record without atoms; it should have at least one")
    ends = [i for i, line in enumerate(record) if line.startswith("M  END")]
    if not ends:
        raise FormatError(path, start, "the record that starts here is cut short; it should have a line 'M  END'")
    if len(ends) > 1:
        problem = f"the record that starts here holds {len(ends)} molecules; a line '$$$$' should stand between them"
        raise FormatError(path, start, problem)
    return Molecule(tuple(symbols), np.array(positions, dtype=np.float64), record[0].strip(), source=f"{path}:{start}")


def _atoms_v2000(record: list[str], path: object, start: int) -> tuple[list[str], list[list[float]]]:
    at = start + COUNTS_LINE
    count = _count_v2000(record[COUNTS_LINE], path, at)
    rows = record[COUNTS_LINE + 1 : COUNTS_LINE + 1 + count]
    if len(rows) < count:
        raise FormatError(path, at, f"{count} atoms are announced, {len(rows)} lines follow")
    following = record[COUNTS_LINE + 1 + count : COUNTS_LINE + 2 + count]
    if following and _is_atom_v2000(following[0]):
        raise FormatError(path, at + 1 + count, f"{following[0]!r} is an atom beyond the {count} that are announced")
    return _atoms([(at + 1 + i, *_fields_v2000(row), row) for i, row in enumerate(rows)], path)


def _count_v2000(counts: str, path: object, at: int) -> int:
    for word in (counts[:3], *counts.split()[:1]):  # three columns; some programs part the numbers by blanks instead
        if word.strip().isdecimal():
            return int(word)
    raise FormatError(path, at, f"the counts line {counts!r} should begin with the number of atoms in three columns")


def _fields_v2000(row: str) -> tuple[str, list[str]]:
    """Element and coordinates in an atom's line."""
    # Columns are fixed: ten each for x, y, z, then a blank and the symbol. Numbers may touch.
    element, numbers = row[30:34].strip(), [row[0:10], row[10:20], row[20:30]]
    words = row.split()
    if symbol_of(element) is None and len(words) > 3 and symbol_of(words[3]) is not None:
        return words[3], words[:3]  # of programs that do not keep to the columns
    return element, numbers


def _is_atom_v2000(row: str) -> bool:
    """Whether a line is an atom's: those of bonds and properties begin with no number that has a point."""
    element, numbers = _fields_v2000(row)
    return "." in numbers[0] and symbol_of(element) is not None


def _atoms_v3000(record: list[str], path: object, start: int) -> tuple[list[str], list[list[float]]]:
    lines = _joined(record, start)
    begin = _line_of(lines, "BEGIN ATOM", path, start)
    end = _line_of(lines, "END ATOM", path, start)
    fields = []
    for at, line in lines[begin + 1 : end]:
        words = line.split()  # M V30 index type x y z aamap ...
        if len(words) < 7:
            raise FormatError(path, at, f"{line!r} should be 'M  V30 index element x y z ...'")
        fields.append((at, words[3], words[4:7], line))
    announced = next((line.split()[3] for _, line in lines if line.split()[2:3] == ["COUNTS"] and line.split()[3:]), "")
    if announced.isdecimal() and int(announced) != len(fields):
        raise FormatError(path, start + COUNTS_LINE, f"{announced} atoms are announced, {len(fields)} lines follow")
    return _atoms(fields, path)


def _joined(record: list[str], start: int) -> list[tuple[int, str]]:
    """The lines that begin with ``M  V30``, with their numbers; one that ends with a hyphen goes on in the next."""
    lines: list[tuple[int, str]] = []
    goes_on = False
    for at, line in enumerate(record, start):
        if line.startswith("M  V30"):
            if goes_on:
                lines[-1] = lines[-1][0], lines[-1][1] + line.removeprefix("M  V30 ")
            else:
                lines.append((at, line))
            goes_on = lines[-1][1].rstrip().endswith("-")
            if goes_on:
                lines[-1] = lines[-1][0], lines[-1][1].rstrip()[:-1]
    return lines


def _line_of(lines: list[tuple[int, str]], words: str, path: object, start: int) -> int:
    for i, (_, line) in enumerate(lines):
        if line.split()[2:] == words.split():
            return i
    raise FormatError(path, start + COUNTS_LINE, f"a V3000 record should have a line 'M  V30 {words}'")


def _atoms(fields: list[tuple[int, str, list[str], str]], path: object) -> tuple[list[str], list[list[float]]]:
    """Symbols and coordinates of (number of the line, element, coordinates, line) of every atom."""
    try:
        atoms = [_atom(element, numbers, line, path, at) for at, element, numbers, line in fields]
    except FormatError as error:
        error.atoms = len(fields)
        raise
    return [symbol for symbol, _ in atoms], [position for _, position in atoms]


def _atom(element: str, numbers: list[str], line: str, path: object, at: int) -> tuple[str, list[float]]:
    symbol = symbol_of(element)
    if symbol is None:
        raise FormatError(path, at, f"{element!r} in {line!r} should be an element's symbol")
    try:
        position = [number(word.strip()) for word in numbers]
    except ValueError:
        raise FormatError(path, at, f"{line!r} should have three coordinates") from None
    if not all(map(math.isfinite, position)):
        raise FormatError(path, at, f"the coordinates in {line!r} should be finite")
    return symbol, position
