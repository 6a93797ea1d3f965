"""Molecules from whatever holds them: xyz and SD files, folders, archives, any of them compressed."""

import csv
import gzip
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.sdf import read_sdf
from graft_lightning.domains.molecules.xyz import read_xyz

READERS = {".xyz": read_xyz, ".sdf": read_sdf, ".mol": read_sdf}
"""By suffix, before any ``.gz``."""

TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz")

READABLE = "xyz, sdf or mol (also .gz), a folder of them, or a tar or zip archive of them"


def read_molecules(paths: Path | str | Sequence[Path | str]) -> Iterator[Molecule]:
    """All molecules of files, folders and archives, in order.

    Folders are read recursively, in the order of their names with numbers compared as numbers; archives in their own
    order. Hidden files and files of other kinds inside folders and archives are passed over.

    Raises:
        FileNotFoundError: if a path does not exist.
        FormatError: naming file and line, where a frame is malformed.
        ValueError: if a path is of no readable kind, or a folder or archive has no molecule in it.
    """
    for path in [paths] if isinstance(paths, Path | str) else paths:
        yield from _read_path(Path(path))


def source_files(paths: Path | str | Sequence[Path | str]) -> list[Path]:
    """The files that `read_molecules` opens for ``paths``, archives counting as one file.

    Raises:
        FileNotFoundError: if a path does not exist.
    """
    found: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, Path | str) else paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; it should be {READABLE}")
        found += _inside(path) if path.is_dir() else [path]
        found += [beside for beside in [_csv_beside(path)] if beside.is_file()]
    return found


def _read_path(path: Path) -> Iterator[Molecule]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; it should be {READABLE}")
    if path.is_dir():
        files = _inside(path)
        if not files:
            raise ValueError(f"the folder {path} holds no file of {', '.join(READERS)}")
        for file in files:
            yield from _read_file(file)
    elif path.name.lower().endswith(TAR):
        yield from _read_members(_tar_members(path), path)
    elif path.suffix.lower() == ".zip":
        yield from _read_members(_zip_members(path), path)
    elif _kind(path.name) is not None:
        yield from _read_file(path)
    else:
        raise ValueError(f"{path} is of no readable kind; it should be {READABLE}")


def _inside(folder: Path) -> list[Path]:
    files = [file for file in folder.rglob("*") if file.is_file() and _kind(file.name) is not None]
    return sorted(files, key=lambda file: [_natural(part) for part in file.relative_to(folder).parts])


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts ``m2`` before ``m10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _kind(name: str) -> str | None:
    """The suffix that names the reader; None for hidden files and other kinds."""
    name = Path(name).name.lower().removesuffix(".gz")
    return next((suffix for suffix in READERS if name.endswith(suffix) and not name.startswith(".")), None)


def _read_file(path: Path) -> Iterator[Molecule]:
    with path.open("rb") as file:
        molecules = _read_stream(file, path.name, path)
        table = _csv_beside(path)
        yield from _with_table(molecules, table) if table.is_file() else molecules


def _read_stream(stream: IO[bytes], name: str, path: object) -> Iterator[Molecule]:
    kind = _kind(name)
    assert kind is not None  # the callers have looked
    if name.lower().endswith(".gz"):
        stream = gzip.open(stream)  # type: ignore[assignment]  # noqa: SIM115 (the caller closes what is below)
    # Not a TextIOWrapper: that asks whether it may seek, which a member of a streamed archive cannot answer.
    return READERS[kind]((line.decode("utf-8", "replace") for line in stream), path)


def _read_members(members: Iterable[tuple[str, IO[bytes]]], path: Path) -> Iterator[Molecule]:
    empty = True
    for name, stream in members:
        empty = False
        yield from _read_stream(stream, name, f"{path}/{name}")
    if empty:
        raise ValueError(f"the archive {path} holds no file of {', '.join(READERS)}")


def _tar_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path, "r|*") as archive:  # a stream: seeking back in a bz2 of 134,000 files takes hours
        for member in archive:
            if member.isfile() and _kind(member.name) is not None:
                stream = archive.extractfile(member)
                assert stream is not None  # it is a file
                yield member.name, stream


def _zip_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if _kind(name) is not None:
                with archive.open(name) as stream:
                    yield name, stream


def _csv_beside(path: Path) -> Path:
    """Where DeepChem's table of properties stands: ``gdb9.sdf.csv`` beside ``gdb9.sdf``."""
    return path.with_name(path.name + ".csv")


def _with_table(molecules: Iterable[Molecule], table: Path) -> Iterator[Molecule]:
    """Molecules with the SMILES and properties of their row of DeepChem's table.

    Raises:
        FormatError: if a row belongs to another molecule, is missing or left over, or holds no numbers.
    """
    with table.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames is None or not {"mol_id", "smiles"} <= set(rows.fieldnames):
            raise FormatError(table, 1, f"the columns {rows.fieldnames} should have mol_id and smiles among them")
        for molecule in molecules:
            row = next(rows, None)
            if row is None or row["mol_id"] != molecule.name:
                found = "the end" if row is None else row["mol_id"]
                raise FormatError(table, rows.line_num, f"{found} stands where {molecule.name} of the sdf should")
            try:
                numbers = {key: float(value) for key, value in row.items() if key not in ("mol_id", "smiles")}
            except (TypeError, ValueError) as error:
                raise FormatError(table, rows.line_num, f"a property should be a number: {error}") from None
            yield replace(molecule, smiles=row["smiles"], properties=numbers)
        left = next(rows, None)
        if left is not None:
            raise FormatError(table, rows.line_num, f"{left['mol_id']} has no molecule in the sdf")
