"""Reading layouts from any files: COCO's JSON, Rico's trees and lines, Magazine's XML, and this package's JSON lines.

Folders and archives of such are gone through in natural order; what is of another kind is passed over, and told.
"""

import codecs
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, cast

from graft_lightning.domains.base.archives import (
    COMPRESSIONS,
    damage_named,
    decompressed,
    open_zip,
    tar_members,
    zip_files,
)
from graft_lightning.domains.base.listing import by_suffix, files_below, hidden, tell_passed_over
from graft_lightning.domains.layouts.coco import read_coco
from graft_lightning.domains.layouts.format_error import FormatError
from graft_lightning.domains.layouts.inspection import BROKEN, BROKEN_ENTRY, Inspection
from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.domains.layouts.lines import is_entry, read_entry, read_lines
from graft_lightning.domains.layouts.magazine import read_magazine
from graft_lightning.domains.layouts.rico import is_tree, labels_of_line, read_text, read_tree
from graft_lightning.domains.layouts.vocabularies import best_vocabulary
from graft_lightning.types import SettingsError

Paths = Path | str | Sequence[Path | str]

SUFFIXES = (".json", ".jsonl", ".ndjson", ".txt", ".xml")
TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
READABLE = f"{', '.join(SUFFIXES)} (also {', '.join(COMPRESSIONS)}), a folder of them, or a tar or zip archive of them"

SMALL = 1 << 25
"""Bytes of a JSON file up to which it is looked at whole; larger ones are COCO's, and streamed."""

LOOKED_AT = 1 << 20
"""Characters of a text among which a line of a layout is looked for, and bytes that a list of categories may have."""

HINTS = 1000
"""Lines of a text by which its vocabulary is guessed."""

TEXT = "a .txt counts where a line is 'Label left top right bottom | ...', with a label of a vocabulary"

CATEGORIES = re.compile(rb'"categories"\s*:\s*(?=\[)')
"""Where COCO's categories begin, or a key of the same name somewhere else."""

Opened = tuple[str, IO[bytes]]
"""Name and bytes of a file, decompressed."""


def source_files(paths: Paths) -> list[Path]:
    """All files that paths stand for, archives as one.

    Raises:
        FileNotFoundError: if a path is absent.
    """
    found: list[Path] = []
    for path in [Path(paths)] if isinstance(paths, Path | str) else [Path(path) for path in paths]:
        path = path.expanduser()
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; it should be {READABLE}")
        found += [path / name for name in files_below(path)] if path.is_dir() else [path]
    return found


def read_layouts(
    paths: Paths, inspection: Inspection, strict: bool = False, read: Callable[[int], object] | None = None
) -> Iterator[Layout]:
    """The layouts of files, folders and archives.

    Args:
        paths: what is read.
        inspection: judges what is found, and counts what is not.
        strict: whether a broken file is an error; it is counted otherwise, and the others are read.
        read: is told how many bytes have been read since the last time, for a progress bar.

    Raises:
        FileNotFoundError: if a path is absent.
        SettingsError: if no file is of a readable kind, or, where ``strict``, one is broken.
    """
    passed_over: list[str] = []
    empty = True
    for path in source_files(paths):
        files = _opened(path, read or (lambda size: None))
        while True:
            try:
                with damage_named(path):
                    opened = next(files, None)
                if opened is None:
                    break
                name, stream = opened
                if not plain_name(name).endswith(SUFFIXES):
                    passed_over.append(name)
                    continue
                with damage_named(name):
                    lines = _layout_lines(stream) if _is_text(name) else None
                    if _is_text(name) and lines is None:
                        passed_over.append(name)
                        continue
                    empty = False
                    yield from (
                        _parsed(name, stream, inspection) if lines is None else read_text(lines, name, inspection)
                    )
            except SettingsError as error:
                if strict:
                    raise
                empty = False
                inspection.fault(BROKEN, str(error))
    if empty:
        others = f" ({by_suffix(passed_over)})" if passed_over else ""
        raise SettingsError(f"{_named(paths)}: no file of a readable kind{others}; give {READABLE}; {TEXT}")
    tell_passed_over(_named(paths), passed_over, f"file of {', '.join(SUFFIXES)} with layouts")


def _named(paths: Paths) -> str:
    return str(paths) if isinstance(paths, Path | str) else ", ".join(map(str, paths))


def _opened(path: Path, read: Callable[[int], object]) -> Iterator[Opened]:
    """A file, or those in an archive."""
    lower = path.name.lower()
    if lower.endswith(TAR):
        for member, stream in tar_members(path):
            if stream is not None and not hidden(member.name):
                yield f"{path}/{member.name}", decompressed(stream, member.name)
        read(path.stat().st_size)
    elif lower.endswith(".zip"):
        with open_zip(path) as archive:
            for entry in zip_files(archive):
                if not hidden(entry.filename):
                    with archive.open(entry) as stream:
                        yield f"{path}/{entry.filename}", decompressed(stream, entry.filename)
                read(entry.compress_size)
    else:
        with io.BufferedReader(_Told(path, read)) as stream:
            yield str(path), decompressed(stream, path.name) if plain_name(lower).endswith(SUFFIXES) else stream


class _Told(io.FileIO):
    """A file that tells how much of it has been read."""

    def __init__(self, path: Path, read: Callable[[int], object]) -> None:
        super().__init__(path)
        self._told = read

    def readinto(self, buffer: Any, /) -> int | None:
        size = super().readinto(buffer)
        self._told(size or 0)
        return size


def plain_name(name: str) -> str:
    """A name in small letters, without the suffix of a compression."""
    name = name.lower()
    return next((name.removesuffix(suffix) for suffix in COMPRESSIONS if name.endswith(suffix)), name)


def _parsed(name: str, stream: IO[bytes], inspection: Inspection) -> Iterator[Layout]:
    kind = Path(plain_name(name)).suffix
    if kind == ".json":
        yield from _json(name, stream, inspection)
    elif kind == ".xml":
        layout = read_magazine(stream, name, inspection)
        if layout is not None:
            yield layout
    else:
        yield from read_lines(_lines(stream), name, inspection)


def _is_text(name: str) -> bool:
    return plain_name(name).endswith(".txt")


def _layout_lines(stream: IO[bytes]) -> Iterator[str] | None:
    """The lines of a text in which some line is one of layouts; None of other texts, which lie beside any data."""
    lines, seen, size = _lines(stream), [], 0
    for line in lines:
        seen.append(line)
        size += len(line)
        if best_vocabulary(labels_of_line(line)) is not None:
            return chain(seen, lines)
        if size > LOOKED_AT:
            break
    return None


def _lines(stream: IO[bytes]) -> Iterator[str]:
    for line in _utf8(stream):
        yield line.decode("utf-8", "replace")


class _Utf8(io.RawIOBase):
    """A text as UTF-8 without a byte order mark, whichever of Unicode's encodings it is in.

    Args:
        stream: the bytes of the text.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        start = stream.read(4)
        encoding = json.detect_encoding(start)
        self._decoder = None if encoding.startswith("utf-8") else codecs.getincrementaldecoder(encoding)("replace")
        self._ahead = self._plain(start).removeprefix(codecs.BOM_UTF8)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        more = True
        while more and not self._ahead:
            data = self._stream.read(len(buffer))
            self._ahead, more = self._plain(data), bool(data)
        piece, self._ahead = self._ahead[: len(buffer)], self._ahead[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)

    def _plain(self, data: bytes) -> bytes:
        return data if self._decoder is None else self._decoder.decode(data, not data).encode("utf-8", "replace")


def _utf8(stream: IO[bytes]) -> IO[bytes]:
    return io.BufferedReader(_Utf8(stream), 1 << 16)


def _json(name: str, stream: IO[bytes], inspection: Inspection) -> Iterator[Layout]:
    stream = _utf8(stream)
    head = stream.read(SMALL)
    if len(head) == SMALL:
        yield from read_coco(cast(IO[bytes], _Both(head, stream)), name, inspection)
        return
    try:
        found = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise FormatError(name, f"no whole JSON ({error}): damaged or cut short; get it again") from None
    if isinstance(found, dict) and "images" in found:
        yield from read_coco(io.BytesIO(head), name, inspection)
        return
    entries = found if isinstance(found, list) else [found]
    if not isinstance(found, list) and not (is_tree(found) or is_entry(found)):
        raise FormatError(
            name,
            "neither COCO ('images', 'annotations', 'categories'), nor a tree of Rico ('bounds', 'children'), nor "
            "layouts ('labels', 'boxes')",
        )
    for number, entry in enumerate(entries):
        source = name if entry is found else f"{name}[{number}]"
        if is_tree(entry):
            layout = read_tree(entry, source, inspection)
        elif is_entry(entry):
            layout = read_entry(entry, source, inspection)
        else:
            inspection.fault(BROKEN_ENTRY, f"{source}: {str(entry)[:80]}")
            continue
        if layout is not None:
            yield layout


class _Both:
    """The beginning of a stream that has been read, and its rest."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = io.BytesIO(head), rest

    def read(self, size: int) -> bytes:
        return self._head.read(size) or self._rest.read(size)


def guessed_vocabulary(paths: Paths) -> str:
    """The name of the vocabulary that files seem to be of, by the first that tells; "publaynet" where none does."""
    for path in source_files(paths):
        try:
            with damage_named(path):
                for name, stream in _opened(path, lambda size: None):
                    found = _hint(plain_name(name), stream)
                    if found is not None:
                        return found
        except (SettingsError, zipfile.BadZipFile):
            continue  # it is told when it is read
    return "publaynet"


def _hint(name: str, stream: IO[bytes]) -> str | None:
    """What a file tells of its vocabulary; None of one that says nothing, as what lies beside the data does."""
    if not name.endswith(SUFFIXES):
        return None
    if name.endswith(".txt"):
        lines = _layout_lines(stream)
        labels = (label for line in islice(lines or (), HINTS) for label in labels_of_line(line))
        return best_vocabulary(labels, first="rico25")
    stream = _utf8(stream)
    head = stream.read(1 << 16)
    if name.endswith(".xml"):
        return "magazine" if b"<layout" in head else None
    if b'"componentLabel"' in head:
        return "rico25"
    for line in head.splitlines()[:20]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        entry = entry[0] if isinstance(entry, list) and entry else entry
        if isinstance(entry, dict) and isinstance(entry.get("vocabulary"), str):
            return str(entry["vocabulary"])
        if is_entry(entry) and isinstance(entry["labels"], list):
            return best_vocabulary(_texts(entry["labels"])) or "publaynet"
    if name.endswith(".json") and any(word in head for word in (b'"images"', b'"annotations"', b'"categories"')):
        return best_vocabulary(_category_names(head, stream))
    return None


def _texts(found: Iterable[Any]) -> list[str]:
    return [one for one in found if isinstance(one, str)]


def _category_names(head: bytes, stream: IO[bytes]) -> list[str]:
    """The names of COCO's categories, which often stand at the end: nothing before them is parsed.

    Args:
        head: the beginning of the file.
        stream: its rest.
    """
    piece = head
    while piece:
        for place in CATEGORIES.finditer(piece):
            if len(piece) - place.end() < LOOKED_AT:
                piece += stream.read(LOOKED_AT)
            text = piece[place.end() : place.end() + LOOKED_AT].decode("utf-8", "replace")
            try:
                found, _ = json.JSONDecoder().raw_decode(text)
            except (ValueError, RecursionError):
                continue
            names = _texts(entry.get("name") for entry in found if isinstance(entry, dict))
            if names:
                return names
        more = stream.read(LOOKED_AT)
        piece = piece[-64:] + more if more else b""  # the key may have been cut
    return []
