"""Reading and writing SDF: elements and positions, V2000 and V3000.

Bonds in the file are not read: every molecule is judged by the same rule, from its geometry.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.perception import perceive
from graft_lightning.domains.molecules.periodic_table import symbol_of

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
    record: list[str] = []
    start = 1
    number = 0
    for number, line in enumerate(lines, start=1):
        if line.startswith("$$$$"):
            yield _molecule(record, path, start)
            record, start = [], number + 1
        else:
            record.append(line.rstrip("\r\n"))
    if any(line.strip() for line in record):
        yield _molecule(record, path, start)


def write_sdf(path: Path | str, molecules: Iterable[Molecule]) -> None:
    """Writes molecules as V2000 records with the bonds of EDM's rule, the name as title, the properties as data items.

    Raises:
        ValueError: if a molecule has more than 999 atoms, which V2000 cannot say, or an element without bond rule.
    """
    with open(path, "w", encoding="utf-8") as file:
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
    counts = record[COUNTS_LINE]
    if "V3000" in counts:
        symbols, positions = _atoms_v3000(record, path, start)
    else:
        symbols, positions = _atoms_v2000(record, path, start)
    if not symbols:
        raise FormatError(path, at, "a record without atoms; it should have at least one")
    return Molecule(tuple(symbols), np.array(positions, dtype=np.float64), record[0].strip(), source=f"{path}:{start}")


def _atoms_v2000(record: list[str], path: object, start: int) -> tuple[list[str], list[list[float]]]:
    counts = record[COUNTS_LINE]
    try:
        count = int(counts[:3])
    except ValueError:
        problem = f"the counts line {counts!r} should begin with the number of atoms in three columns"
        raise FormatError(path, start + COUNTS_LINE, problem) from None
    rows = record[COUNTS_LINE + 1 : COUNTS_LINE + 1 + count]
    if len(rows) < count:
        raise FormatError(path, start + COUNTS_LINE, f"{count} atoms are announced, {len(rows)} lines follow")
    atoms = [
        # Columns are fixed: ten each for x, y, z, then a blank and the symbol. Numbers may touch.
        _atom(row[30:34], [row[0:10], row[10:20], row[20:30]], row, path, start + COUNTS_LINE + 1 + i)
        for i, row in enumerate(rows)
    ]
    return [symbol for symbol, _ in atoms], [position for _, position in atoms]


def _atoms_v3000(record: list[str], path: object, start: int) -> tuple[list[str], list[list[float]]]:
    begin = _line_of(record, "M  V30 BEGIN ATOM", path, start)
    end = _line_of(record, "M  V30 END ATOM", path, start)
    atoms = []
    for i in range(begin + 1, end):
        words = record[i].split()  # M V30 index type x y z aamap ...
        if len(words) < 7:
            raise FormatError(path, start + i, f"{record[i]!r} should be 'M  V30 index element x y z ...'")
        atoms.append(_atom(words[3], words[4:7], record[i], path, start + i))
    return [symbol for symbol, _ in atoms], [position for _, position in atoms]


def _line_of(record: list[str], marker: str, path: object, start: int) -> int:
    for i, line in enumerate(record):
        if line.startswith(marker):
            return i
    raise FormatError(path, start + COUNTS_LINE, f"a V3000 record should have a line {marker!r}")


def _atom(element: str, numbers: list[str], line: str, path: object, number: int) -> tuple[str, list[float]]:
    symbol = symbol_of(element.strip())
    if symbol is None:
        raise FormatError(path, number, f"{element.strip()!r} in {line!r} should be an element's symbol")
    try:
        position = [float(word) for word in numbers]
    except ValueError:
        raise FormatError(path, number, f"{line!r} should have three coordinates") from None
    if not all(map(math.isfinite, position)):
        raise FormatError(path, number, f"the coordinates in {line!r} should be finite")
    return symbol, position
