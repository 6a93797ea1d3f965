"""Archives and compressed files, read to their very end: what was cut short is refused, never read as less.

A tar archive without its end, a compressed stream without its end, and a zip archive that is only the inner part of
another are otherwise read without complaint, as far as they go.
"""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from graft_lightning.types import SettingsError

BLOCK = 512
"""Bytes; of such a tar archive is made, and two of zeros end it."""

RECORD = 10 * BLOCK
"""Bytes: writers pad an archive after its end, if at all, to a multiple of this (pax) or of twice this (the others)."""

PIECE = 1 << 16
"""Compressed bytes that are read at a time."""


class _Streams(io.RawIOBase):
    """The content of compressed streams that follow each other, as parallel programs write them; zeros may lie between.

    Python's own readers of bz2 and xz stop without a word where what follows a stream begins no other one.

    Args:
        stream: the compressed bytes.
        new: makes what decompresses one stream.

    Raises:
        EOFError: by reading, if a stream does not come to its end.
        OSError, lzma.LZMAError: by reading, if a stream is damaged, or something else follows.
    """

    def __init__(self, stream: IO[bytes], new: Callable[[], Any]) -> None:
        self._stream, self._new = stream, new
        self._current, self._ahead = new(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while True:
            if self._current.eof:
                self._ahead = self._following()
                if not self._ahead:
                    return 0
                self._current = self._new()
            given = b""
            if self._current.needs_input:
                given, self._ahead = self._ahead or self._stream.read(PIECE), b""
                if not given:
                    raise EOFError("the compressed stream has no end")
            data = self._current.decompress(given, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _following(self) -> bytes:
        """The first bytes after a stream that are no zeros; none at the end."""
        found = self._current.unused_data.lstrip(b"\0")
        while not found and (data := self._stream.read(PIECE)):
            found = data.lstrip(b"\0")
        return cast(bytes, found)


COMPRESSIONS: dict[str, tuple[bytes, Callable[[IO[bytes]], Any]]] = {
    ".gz": (b"\x1f\x8b", gzip.open),
    ".bz2": (b"BZh", lambda stream: io.BufferedReader(_Streams(stream, bz2.BZ2Decompressor))),
    ".xz": (b"\xfd7zXZ\x00", lambda stream: io.BufferedReader(_Streams(stream, lzma.LZMADecompressor))),
}
"""By suffix: the first bytes of a stream, and what reads it."""

DAMAGE = (
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    RuntimeError,  # a zip archive with a password
    NotImplementedError,  # a compression that zipfile lacks
)
"""What readers raise at bytes that are damaged, missing or locked."""


@contextmanager
def damage_named(path: object) -> Iterator[None]:
    """Turns whatever readers raise at damaged, missing or locked bytes into an error that names the file.

    Raises:
        SettingsError: naming ``path``.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise SettingsError(f"{path} cannot be read ({error.strerror})") from error
        raise SettingsError(f"{path} was cut short, is damaged or locked ({error}); get it again") from error


def decompressed(stream: IO[bytes], name: str) -> IO[bytes]:
    """A stream of what a compressed one holds, by its first bytes and else by its suffix; others as they are.

    Args:
        stream: with ``peek``, as files and members of archives have it.
        name: of the file.

    Raises:
        EOFError: if the name tells of a compressed file, and nothing is there.
    """
    start = cast(Any, stream).peek(6)[:6]
    for suffix, (magic, opened) in COMPRESSIONS.items():
        if start.startswith(magic) or name.lower().endswith((suffix, ".t" + suffix[1:])):
            if not start:
                raise EOFError("the file is empty")
            return cast(IO[bytes], opened(stream))
    return stream


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip archive, complete.

    Raises:
        SettingsError: if it is none, or was cut short.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError) as error:
        raise SettingsError(f"{path} is no zip archive, or a damaged one ({error})") from error
    except PermissionError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror})") from error
    members = archive.infolist()
    # Of an archive that holds another one, cut after that, the inner one would be read.
    if members and min(member.header_offset for member in members) > 0:
        archive.close()
        raise SettingsError(f"{path} is a damaged zip archive (it does not begin with its first member); get it again")
    if len(archive.comment) != _announced_comment(path):
        archive.close()
        raise SettingsError(f"{path} is a damaged zip archive (its comment was cut short); get it again")
    return archive


def _announced_comment(path: Path) -> int:
    """Length in bytes of the comment of a zip archive, as the record at its end states it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 22 - 0xFFFF))
        tail = file.read()
    start = len(tail) - 22 if tail[-22:].startswith(b"PK\5\6") and tail.endswith(b"\0\0") else tail.rfind(b"PK\5\6")
    return int.from_bytes(tail[start + 20 : start + 22], "little")


def zip_files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The members that are files, in their order; of one name that is there several times, the last.

    Links are none: their content is the name of another member.
    """
    last = {member.filename: member for member in archive.infolist()}
    return [member for member in last.values() if not member.is_dir() and not _is_link(member)]


def zip_links(archive: zipfile.ZipFile) -> list[str]:
    """The members that are links, as they are told among what is passed over."""
    return [f"{member.filename} (link)" for member in archive.infolist() if _is_link(member)]


def _is_link(member: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(member.external_attr >> 16)  # the mode, where a Unix program wrote the archive


def tar_members(path: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """The members of a tar archive, compressed or not, each with its stream (None of what is no file), in their order.

    The archive is read as a stream: seeking back in a bz2 of 134,000 files takes hours.

    Raises:
        EOFError, tarfile.TarError, and what decompression raises: if the archive does not come to its proper end.
    """
    with path.open("rb") as file:
        stream = decompressed(file, path.name)
        tape = _Tape(stream)
        with tarfile.open(fileobj=cast(IO[bytes], tape), mode="r|") as archive:
            for member in archive:
                yield member, archive.extractfile(member) if member.isfile() else None
            _check_end(tape, archive.offset, compressed=stream is not file)


class _Tape:
    """A stream that remembers its length, and where the zeros at its end begin."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.length = self.zeros_from = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        content = len(data.rstrip(b"\0"))
        if content:
            self.zeros_from = self.length + content
        self.length += len(data)
        return data


def _check_end(tape: _Tape, end: int, compressed: bool) -> None:
    """Reads the rest of the archive; at ``end`` its last member ended."""
    while tape.read(1 << 20):
        pass
    if tape.length < end + 2 * BLOCK or tape.length % BLOCK:
        raise EOFError("the archive has no end")
    if tape.zeros_from > end:
        raise EOFError(f"at byte {end} neither a member nor the end of the archive is found")
    if not compressed and tape.length > end + 2 * BLOCK and tape.length % RECORD:
        raise EOFError("the archive ends within the zeros after its end")
