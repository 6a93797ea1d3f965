"""Writing files so that a kill or a full disk leaves the old one or the new one, never a part of one.

Everything that a run keeps is written here: beside its place, on the same file system, then synchronised and renamed.
"""

import contextlib
import ctypes
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

LONGEST = 200
"""Bytes of a file's name that its temporary name repeats; file systems allow 255."""

EXCHANGE = {"linux": "renameat2", "darwin": "renameatx_np"}
"""By platform, the call of the system's library that lets two names change places; both take `SWAP`."""

SWAP, HERE = 2, {"linux": -100, "darwin": -2}
"""The flag RENAME_EXCHANGE, or RENAME_SWAP; AT_FDCWD, with which paths are read from the working folder."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write a file to; it becomes ``path`` at the end of the block, in one step, once it is on disk.

    Yields:
        A path in the same folder, which is made if absent; the name is hidden and ends in ``.tmp``.

    Raises:
        OSError: if it cannot be written; what was there before is untouched, and nothing else is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{hidden(path)}.tmp")
    try:
        yield temporary
        sync_file(temporary)
        os.replace(temporary, path)
    except Exception as error:
        if (known := of_the_system(error, temporary, path)) is not None:
            raise known from None
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A place to write a folder to; it becomes ``path`` at the end of the block, once all of it is on disk.

    A folder that was there changes places with the new one, in one step, and is then deleted. Where the file system
    cannot do that (some network file systems), it is moved aside first: a kill between the two steps leaves it there,
    under a hidden name that ends in ``.old``, and the next call puts it back before it begins.

    Yields:
        The path of a folder that is absent, beside ``path``; the name is hidden and ends in ``.tmp``.

    Raises:
        OSError: if it cannot be written; what was there before is untouched, and nothing else is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = hidden(path)
    temporary, old = path.with_name(f"{name}.tmp"), path.with_name(f"{name}.old")
    _put_back(path)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                sync_file(file)
        if not (path.is_dir() and exchange(temporary, path)):
            if path.exists():
                os.rename(path, old)
            os.rename(temporary, path)
    except Exception as error:
        if old.exists() and not path.exists():
            os.rename(old, path)
        if (known := of_the_system(error, temporary, path)) is not None:
            raise known from None
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
    sync_folder(path.parent)


def hidden(path: Path) -> str:
    """A name beside ``path`` that nothing else has, without its ending; no longer than a file system allows."""
    return f".{path.name.encode()[:LONGEST].decode(errors='ignore')}.{secrets.token_hex(4)}"


def exchange(first: Path, second: Path) -> bool:
    """Lets two files or folders of one file system change places, in one step.

    Returns:
        Whether it was done; False where the system or the file system does not know how.
    """
    call = getattr(ctypes.CDLL(None), EXCHANGE.get(sys.platform, ""), None)
    if call is None:
        return False
    here = HERE[sys.platform]
    return call(here, os.fsencode(first), here, os.fsencode(second), SWAP) == 0


def _put_back(path: Path) -> None:
    """Undoes the first of two steps, after which a process was killed."""
    if path.exists():
        return
    mark = hidden(path)[:-8]
    aside = [p for p in path.parent.glob(".*.old") if re.fullmatch(r"[0-9a-f]{8}\.old", p.name.removeprefix(mark))]
    if aside:
        os.rename(max(aside, key=lambda p: p.stat().st_mtime), path)


def of_the_system(error: Exception, temporary: Path, path: Path) -> OSError | None:
    """A failure to write a temporary file or folder as one of the file that it was to be; None where it is another.

    Libraries in Rust tell of a full disk as an error of their own, with the system's number in its text.
    """
    if isinstance(error, OSError):
        inside = error.filename is not None and str(error.filename).startswith(str(temporary))
        if error.errno is None or not (error.filename is None or inside):
            return None
        return OSError(error.errno, error.strerror, str(path))
    found = re.search(r"os error (\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1])), str(path)) if found else None


def write_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8.

    Raises:
        OSError: if it cannot be written; what was there before is untouched.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes.

    Raises:
        OSError: if they cannot be written; what was there before is untouched.
    """
    with replacing(path) as temporary, open(temporary, "xb") as file:
        file.write(content)


def append_line(path: Path, line: str) -> None:
    """Adds a line to a file of lines; arguments and errors as in `append_lines`."""
    append_lines(path, [line])


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Adds lines to a file of lines; made if absent, with its folder.

    The first begins a line of its own, also after one that a killed process did not finish: that one is cut off, for
    nothing can be read of it. Where they cannot be written, the file ends where it did. Lines are JSON.

    Raises:
        OSError: if they cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with open(path, "ab+", buffering=0) as opened:
        file = cast(BinaryIO, opened)
        end, lacking = _end_of_lines(file)
        try:
            file.truncate(end)
            _write_all(file, lacking + "".join(f"{line}\n" for line in lines).encode("utf-8"))
            os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise OSError(error.errno, error.strerror, str(path)) from None  # what is written names no file
    if fresh:
        sync_folder(path.parent)


def _write_all(file: BinaryIO, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def _end_of_lines(file: BinaryIO) -> tuple[int, bytes]:
    """Where the last whole line ends, in bytes, and what it lacks: a line break, where all but that was written."""
    end = file.seek(0, os.SEEK_END)
    position, tail = end, b""
    while position:
        start = max(0, position - 65536)
        file.seek(start)
        tail = file.read(position - start) + tail
        position = start
        if b"\n" in tail:
            break
    unfinished = tail[tail.rfind(b"\n") + 1 :]
    try:
        json.loads(unfinished)
    except ValueError:  # also of bytes that are no text, and of none
        return end - len(unfinished), b""
    return end, b"\n"


def sync_file(path: Path) -> None:
    """Makes what a file holds durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    sync_file(folder)
