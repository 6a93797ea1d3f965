"""Reading and writing xyz: plain, many frames in one file, and the original files of QM9.

A frame is a line with the number of atoms n, a comment line, and n lines ``El x y z``, further columns allowed. A frame
of QM9 (``dsgdb9nsd_*.xyz``) is told by its comment, ``gdb <id>`` and 15 properties, and has after its atoms a line of
frequencies, a line of two SMILES and one of two InChI; its numbers may have Fortran exponents written ``*^``.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.periodic_table import symbol_of

QM9_PROPERTIES = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
"""What the comment of a QM9 frame states after the identifier, in QM9's own units."""


def read_xyz(lines: Iterable[str], path: object) -> Iterator[Molecule]:
    """The frames of an xyz file, one after the other; blank lines between frames are skipped.

    Args:
        lines: of the file.
        path: for messages.

    Raises:
        FormatError: naming file and line, if a frame is cut short or a number cannot be read.
    """
    numbered = enumerate(lines, start=1)
    for number, line in numbered:
        if not line.strip():
            continue
        count = _atom_count(line, path, number)
        _, comment = _next(numbered, path, number, f"the comment line of a frame of {count} atoms")
        rows = []
        for done in range(count):
            at, row = _next(numbered, path, number, f"{count} atoms, of which {done} are there")
            rows.append(_atom(row, path, at))
        symbols = tuple(symbol for symbol, _ in rows)
        positions = np.array([position for _, position in rows], dtype=np.float64)
        name, smiles = comment.strip(), ""
        properties: dict[str, float] = {}
        if _is_qm9(comment):
            name, properties = _qm9_comment(comment, path, number + 1)
            for what in ("its frequencies", "its SMILES", "its InChI"):
                at, row = _next(numbered, path, number, f"the line with {what}, as a frame of QM9 has")
                if what == "its frequencies":
                    _ = [_number(word, path, at, "frequency") for word in row.split()]
                elif what == "its SMILES":
                    smiles = _first_smiles(row, path, at)
        yield Molecule(symbols, positions, name, smiles, properties, f"{path}:{number}")


def write_xyz(path: Path | str, molecules: Iterable[Molecule]) -> None:
    """Writes molecules as one multi-frame xyz file, positions in Angstrom to 1e-6, the name as comment."""
    with open(path, "w", encoding="utf-8") as file:
        for molecule in molecules:
            file.write(f"{len(molecule.symbols)}\n{_one_line(molecule.name)}\n")
            for symbol, (x, y, z) in zip(molecule.symbols, molecule.positions, strict=True):
                file.write(f"{symbol:<2} {x:12.6f} {y:12.6f} {z:12.6f}\n")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _next(numbered: Iterator[tuple[int, str]], path: object, start: int, wanted: str) -> tuple[int, str]:
    """The next line with its number.

    Raises:
        FormatError: at the frame's first line, if the file has ended.
    """
    for number, line in numbered:
        return number, line
    raise FormatError(path, start, f"the file ends inside the frame that starts here; it should have {wanted}")


def _atom_count(line: str, path: object, number: int) -> int:
    try:
        count = int(line)
    except ValueError:
        count = 0
    if count < 1:
        raise FormatError(path, number, f"{line.strip()!r} should be the number of atoms, an integer of at least 1")
    return count


def _atom(line: str, path: object, number: int) -> tuple[str, list[float]]:
    words = line.split()
    if len(words) < 4:
        raise FormatError(path, number, f"{line.strip()!r} should be an element and three coordinates")
    symbol = symbol_of(words[0])
    if symbol is None:
        raise FormatError(path, number, f"{words[0]!r} should be an element's symbol or atomic number")
    return symbol, [_number(word, path, number, "coordinate") for word in words[1:4]]


def _number(word: str, path: object, line: int, what: str) -> float:
    """A finite number; QM9 writes some exponents as ``*^``."""
    try:
        value = float(word.replace("*^", "e"))
    except ValueError:
        raise FormatError(path, line, f"the {what} {word!r} should be a number") from None
    if not math.isfinite(value):
        raise FormatError(path, line, f"the {what} {word!r} should be finite")
    return value


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
