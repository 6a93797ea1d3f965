"""Molecules from whatever holds them: xyz and SD files, folders, archives, any of them compressed.

A sample that is there as several files (``m.sdf`` and ``m.xyz``, ``m.xyz`` and ``m.xyz.gz``, a file and a link to it,
or one file named twice) is read once, where they hold the same molecules.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from graft_lightning.domains.base.archives import (
    damage_named,
    decompressed,
    open_zip,
    tar_members,
    zip_files,
    zip_links,
)
from graft_lightning.domains.base.listing import by_suffix, files_below, hidden, natural_path, tell_passed_over
from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.deepchem import csv_beside, with_table
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.kinds import GUESSED, READABLE, READERS, TAR, if_frames, kind_of, stem_of
from graft_lightning.domains.molecules.qm9 import counted
from graft_lightning.domains.molecules.text import text_lines
from graft_lightning.domains.molecules.twins import Entry, Twins
from graft_lightning.types import SettingsError

WANTED = "xyz or SD file"


def read_molecules(paths: Path | str | Sequence[Path | str]) -> Iterator[Molecule]:
    """All molecules of files, folders and archives, in order.

    Folders are read recursively, linked ones too, in the order of their names with numbers compared as numbers;
    archives in their own order. Hidden files are passed by; how many files of other kinds there are is told.

    Raises:
        FileNotFoundError: if a path does not exist.
        FormatError: naming file and line, where a frame is malformed, or a file has no molecule in it.
        SettingsError: if a path is of no readable kind, a folder or archive has no molecule in it, an archive or a
            compressed file was cut short, or a copy of QM9 ends before its last molecule.
    """
    for entry in read_entries(paths):
        if isinstance(entry, FormatError):
            raise entry
        yield entry


def read_entries(paths: Path | str | Sequence[Path | str]) -> Iterator[Entry]:
    """As `read_molecules`, but what is wrong with a molecule stands in its place, and the others follow.

    A file without any molecule has one such entry.

    Raises:
        FileNotFoundError, SettingsError: as `read_molecules`.
    """
    twins = Twins()
    for path in map(Path, [paths] if isinstance(paths, Path | str) else paths):
        yield from counted(path, _read_path(path, twins))
    twins.tell()


def source_files(paths: Path | str | Sequence[Path | str]) -> list[Path]:
    """The files that `read_molecules` opens for ``paths``, archives counting as one file.

    Raises:
        FileNotFoundError: if a path does not exist.
    """
    found: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, Path | str) else paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; it should be {READABLE}")
        files = [path / name for name in files_below(path) if kind_of(name) is not None] if path.is_dir() else [path]
        found += files + [table for table in map(csv_beside, files) if table.is_file()]
    return found


Opener = Callable[[], Iterator[Entry] | None]
"""Opens a file of a readable kind; None if it is a text of something else."""


def _read_path(path: Path, twins: Twins) -> Iterator[Entry]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; it should be {READABLE}")
    if path.is_dir():
        yield from _read_all(_in_folder(path), path, "folder", twins)
    elif path.name.lower().endswith(TAR):
        yield from _read_all(_in_tar(path), path, "archive", twins)
    elif path.suffix.lower() == ".zip":
        yield from _read_all(_in_zip(path), path, "archive", twins)
    else:
        entries = _read_file(path) if kind_of(path.name) is not None else None
        if entries is None:
            raise SettingsError(f"{path} is of no readable kind; it should be {READABLE}")
        yield from twins.once(stem_of(path.resolve().as_posix()), path, entries)


def _read_all(files: Iterable[tuple[str, Opener]], path: Path, what: str, twins: Twins) -> Iterator[Entry]:
    """The entries of the files in a folder or archive; tells what is passed over.

    Raises:
        SettingsError: if no file has any.
    """
    place = path.resolve().as_posix()
    passed_over = []
    empty = True
    for name, opened in files:
        entries = opened() if kind_of(name) is not None else None
        if entries is None:
            passed_over.append(name)
        else:
            empty = False
            whole = f"{place}/{name}"
            # A link to a file of the folder, or into a folder that is named too, is that file under a second name.
            whole = os.path.realpath(whole) if what == "folder" else whole
            yield from twins.once(stem_of(whole), f"{path}/{name}", entries)
    if empty:
        others = f", but {by_suffix(passed_over)}" if passed_over else ""
        raise SettingsError(f"the {what} {path} holds no file of {', '.join(READERS)}{others}")
    tell_passed_over(path, passed_over, WANTED)


def _in_folder(path: Path) -> Iterator[tuple[str, Opener]]:
    order = list(READERS)  # of files of one molecule xyz comes first: it has more digits
    names = [name for name in files_below(path) if not name.lower().endswith(".sdf.csv")]
    for name in sorted(names, key=lambda name: (natural_path(stem_of(name)), order.index(kind_of(name) or GUESSED))):
        yield name, partial(_read_file, path / name)


def _in_zip(path: Path) -> Iterator[tuple[str, Opener]]:
    with damage_named(path), open_zip(path) as archive:
        for member in zip_files(archive):
            if not hidden(member.filename):
                yield member.filename, partial(_read, partial(archive.open, member), member.filename, path)
        for name in zip_links(archive):
            if not hidden(name):
                yield name, lambda: None


def _in_tar(path: Path) -> Iterator[tuple[str, Opener]]:
    with damage_named(path):
        for member, stream in tar_members(path):
            if member.isdir() or hidden(member.name):
                continue
            if stream is None:
                yield f"{member.name} (link)", lambda: None
            else:
                yield member.name, partial(_read, partial(_as_it_is, stream), member.name, path)


def _as_it_is(stream: IO[bytes]) -> IO[bytes]:
    return stream


def _read_file(path: Path) -> Iterator[Entry] | None:
    entries = _read(lambda: path.open("rb"), path.name, path.parent)
    table = csv_beside(path)
    return with_table(entries, table) if entries is not None and table.is_file() else entries


def _read(opened: Callable[[], IO[bytes]], name: str, inside: Path) -> Iterator[Entry] | None:
    """The entries of a file; None if it is a text of something else.

    Args:
        opened: opens it.
        name: relative to ``inside``.
        inside: the folder or archive.
    """
    kind = kind_of(name)
    assert kind is not None  # the callers have looked
    path = inside / name
    lines: Iterator[str] | None = _lines(opened, path)
    if kind == GUESSED:
        lines = if_frames(_lines(opened, path), path)
    return READERS[kind](lines, path) if lines is not None else None


def _lines(opened: Callable[[], IO[bytes]], path: Path) -> Iterator[str]:
    with damage_named(path), opened() as stream:
        yield from text_lines(decompressed(stream, path.name))
