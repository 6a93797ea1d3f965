"""Reading and writing xyz: plain, extended, many frames in one file, and the original files of QM9.

A frame is a line with the number of atoms n, a comment line, and n lines ``El x y z``, further columns allowed; the
comment of extended xyz says which columns are meant, and in which unit. A frame of QM9 (``dsgdb9nsd_*.xyz``) is told by
its comment, ``gdb <id>`` and 15 properties, and has after its atoms a line of frequencies, a line of two SMILES and one
of two InChI, unless somebody has cleaned all three away; its numbers may have exponents written ``*^``.

Kept by hand because RDKit reads one plain frame at a time, and neither QM9's own frames nor extended columns.
"""

import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.columns import ANGSTROM, Columns, columns_of, length_unit, speaks_of_bohr
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.numbered import NumberedLines
from graft_lightning.domains.molecules.periodic_table import symbol_of
from graft_lightning.domains.molecules.text import number
from graft_lightning.durable import replacing

logger = logging.getLogger(__name__)

QM9_PROPERTIES = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
"""What the comment of a QM9 frame states after the identifier, in QM9's own units."""

COUNT = re.compile(rf"\s*([+-]?\d+)(?:\s+({'|'.join(map(re.escape, ANGSTROM))}))?\s*", re.IGNORECASE)
"""The first line of a frame: the number of atoms, and Psi4's unit."""

_LATTICE = re.compile(r"\s*VEC[123]\b", re.IGNORECASE)
"""Lines after the atoms by which AMS tells of a lattice."""


def read_xyz(lines: Iterable[str], path: object) -> Iterator[Molecule]:
    """The frames of an xyz file, one after the other; blank lines between frames are skipped.

    Args:
        lines: of the file.
        path: for messages.

    Raises:
        FormatError: naming file and line, if a frame is cut short or a number cannot be read.
    """
    for found in xyz_frames(lines, path):
        if isinstance(found, FormatError):
            raise found
        yield found


def xyz_frames(lines: Iterable[str], path: object) -> Iterator[Molecule | FormatError]:
    """As `read_xyz`, but what is wrong with a frame stands in its place, and the next one is looked for.

    After a frame that cannot be read, the next one begins at the next line that is an integer and nothing else.
    Warns at the end of the file of comments that speak of bohr, and are not understood.
    """
    source = NumberedLines(lines)
    in_bohr: list[int] = []
    while source.skip_blank() is not None:
        try:
            found: Molecule | FormatError = _frame(source, path, in_bohr)
        except FormatError as error:
            found = error
            while (item := source.peek()) is not None and not COUNT.fullmatch(item[1]):
                source.take()
        yield found
    if in_bohr:
        logger.warning(
            "%s: %d x a comment speaks of bohr, and its coordinates are taken for angstroms; the first is line %d; "
            "write units=bohr if they are in bohr, units=angstrom otherwise",
            path,
            len(in_bohr),
            in_bohr[0],
        )


def write_xyz(path: Path | str, molecules: Iterable[Molecule]) -> None:
    """Writes molecules as one multi-frame xyz file, positions in Angstrom to 1e-6, the name as comment."""
    with replacing(Path(path)) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for molecule in molecules:
            file.write(f"{len(molecule.symbols)}\n{_one_line(molecule.name)}\n")
            for symbol, (x, y, z) in zip(molecule.symbols, molecule.positions, strict=True):
                file.write(f"{symbol:<2} {x:12.6f} {y:12.6f} {z:12.6f}\n")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _frame(source: NumberedLines, path: object, in_bohr: list[int]) -> Molecule:
    """The frame that begins at the next line. Where it raises, the next frame is still to come.

    Args:
        source: of the lines.
        path: for messages.
        in_bohr: takes the line of a comment that speaks of bohr, where no unit is understood.
    """
    start, line = source.take()
    count, unit = _atom_count(line, path, start)
    at, comment = _next(source, path, start, f"the comment line of a frame of {count} atoms")
    try:
        columns = columns_of(comment)
    except ValueError as error:
        raise FormatError(path, at, str(error)) from None
    if unit is None and columns.unit is None and speaks_of_bohr(comment):
        in_bohr.append(at)
    unit = unit or columns.unit or 1.0
    rows = _rows(source, count, columns, path, start)
    smiles = _after_atoms(source, columns, _is_qm9(comment), path, start)
    try:
        name, properties = _qm9_comment(comment, path, at) if _is_qm9(comment) else (comment.strip(), {})
        atoms = [_atom(row, columns, path, at) for at, row in rows]
    except FormatError as error:
        error.atoms = count
        raise
    positions = np.array([position for _, position in atoms], dtype=np.float64) * unit
    return Molecule(tuple(symbol for symbol, _ in atoms), positions, name, smiles, properties, f"{path}:{start}")


def _next(source: NumberedLines, path: object, start: int, wanted: str) -> tuple[int, str]:
    """The next line with its number.

    Raises:
        FormatError: at the frame's first line, if the file has ended.
    """
    if source.peek() is None:
        raise FormatError(path, start, f"the file ends inside the frame that starts here; it should have {wanted}")
    return source.take()


def _atom_count(line: str, path: object, start: int) -> tuple[int, float | None]:
    """The number of atoms, and the unit beside it."""
    found = COUNT.fullmatch(line)
    if found is None or int(found[1]) < 1:
        raise FormatError(path, start, f"{line.strip()!r} should be the number of atoms, an integer of at least 1")
    return int(found[1]), length_unit(found[2]) if found[2] else None


def _rows(source: NumberedLines, count: int, columns: Columns, path: object, start: int) -> list[tuple[int, list[str]]]:
    """The words of the atoms' lines, with the lines' numbers."""
    rows: list[tuple[int, list[str]]] = []
    while len(rows) < count:
        item = source.peek()
        if item is None:
            _next(source, path, start, f"{count} atoms, of which {len(rows)} are there")
        else:
            at, line = item
            words = line.split()
            if len(words) < columns.width:
                wanted = "an element and three coordinates" if columns.width == 4 else f"{columns.width} columns"
                raise FormatError(path, at, f"{line.strip()!r} should be {wanted}")
            rows.append((at, words))
            source.take()
    return rows


def _atom(words: list[str], columns: Columns, path: object, at: int) -> tuple[str, list[float]]:
    element = words[columns.element].strip("\"'")
    symbol = symbol_of(element)
    if symbol is None:
        raise FormatError(path, at, f"{element!r} should be an element's symbol or atomic number")
    return symbol, [_number(word, path, at, "coordinate") for word in words[columns.position :][:3]]


def _number(word: str, path: object, line: int, what: str) -> float:
    """A finite number."""
    try:
        value = number(word)
    except ValueError:
        raise FormatError(path, line, f"the {what} {word!r} should be a number") from None
    if not math.isfinite(value):
        raise FormatError(path, line, f"the {what} {word!r} should be finite")
    return value


def _after_atoms(source: NumberedLines, columns: Columns, is_qm9: bool, path: object, start: int) -> str:
    """What stands between the atoms and the next frame. Returns QM9's SMILES, "" where there is none."""
    while (item := source.peek()) is not None and _LATTICE.match(item[1]):
        source.take()
    item = source.skip_blank()
    if item is None or COUNT.fullmatch(item[1]):
        return ""
    words, third = item[1].split(), source.peek(2)
    if not is_qm9 and (third is None or not third[1].startswith("InChI=")):
        if len(words) >= columns.width and symbol_of(words[columns.element]) is not None:
            # One atom more than announced: this frame is wrong. Anything else would be the next frame's fault.
            raise FormatError(path, item[0], f"{item[1].strip()!r} should be the number of atoms of the next frame")
        return ""
    at, row = _next(source, path, start, "the line with its frequencies, as a frame of QM9 has")
    for word in row.split():
        _number(word, path, at, "frequency")
    at, row = _next(source, path, start, "the line with its SMILES, as a frame of QM9 has")
    smiles = _first_smiles(row, path, at)
    _next(source, path, start, "the line with its InChI, as a frame of QM9 has")
    return smiles


def _is_qm9(comment: str) -> bool:
    words = comment.split()
    return len(words) > 2 and words[0] == "gdb" and words[1].isdecimal()


def _qm9_comment(comment: str, path: object, line: int) -> tuple[str, dict[str, float]]:
    _, identifier, *words = comment.split()
    if len(words) != len(QM9_PROPERTIES):
        problem = f"a frame of QM9 states {len(QM9_PROPERTIES)} properties after 'gdb {identifier}', not {len(words)}"
        raise FormatError(path, line, problem)
    values = [_number(word, path, line, "property") for word in words]
    return f"gdb_{identifier}", dict(zip(QM9_PROPERTIES, values, strict=True))


def _first_smiles(line: str, path: object, number: int) -> str:
    words: Sequence[str] = line.split()
    if len(words) != 2:
        raise FormatError(path, number, f"{line.strip()!r} should be two SMILES, of GDB-9 and of the relaxed geometry")
    return words[0]
