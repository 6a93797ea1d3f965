"""What files and folders hold, as digests: the same content has the same identity under any path and at any time."""

import hashlib
from functools import lru_cache
from pathlib import Path

from graft_lightning.identity.digests import BYTES, digest_of

READ = 256 << 20
"""Bytes of one file or folder that are read at most, so that describing a data set takes seconds."""

PLACES = 16
"""Where a file that is too large for that is looked at: its beginning, its end, and evenly between them."""

BLOCK = 1 << 20
"""Bytes that are read at a time."""

MANY = 2000
"""Files of a folder beyond which only their names and sizes count."""


def content(path: Path) -> str:
    """A digest of a file, or of all files of a folder by their names; hidden ones are left out.

    A file of up to `READ` bytes is read whole. Of larger ones, and of folders that hold more, so many bytes are read at
    `PLACES` places of each file, and their sizes count: weights that were trained further, and data that was edited,
    differ everywhere. Of a folder with more than `MANY` files the names and sizes count.

    Raises:
        OSError: if something there cannot be read.
    """
    path = path.resolve()
    if path.is_file():
        return _digest_of_part(path, READ)
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if len(names) > MANY:
        return digest_of([[name, (path / name).stat().st_size] for name in names])
    share = READ // max(len(names), 1)
    return digest_of([[name, _digest_of_part((path / name).resolve(), share)] for name in names])


def file_digest(file: Path) -> str:
    """A digest of a whole file; the hub's cache already names its files by theirs."""
    file = file.resolve()
    return _digest_of_part(file, file.stat().st_size)


def _digest_of_part(file: Path, limit: int) -> str:
    if file.parent.name == "blobs":
        return file.name
    state = file.stat()
    return _read(file, state.st_size, state.st_mtime_ns, min(limit, state.st_size))


@lru_cache(maxsize=4096)
def _read(file: Path, size: int, changed: int, limit: int) -> str:
    """Read once a process, until size or time of the file change."""
    with open(file, "rb") as stream:
        if limit >= size:
            whole = hashlib.blake2b(digest_size=BYTES)
            while block := stream.read(BLOCK):
                whole.update(block)
            return whole.hexdigest()
        hasher = hashlib.blake2b(str(size).encode(), digest_size=BYTES)
        length = max(limit // PLACES, 1)
        for place in range(PLACES):
            stream.seek((size - length) * place // (PLACES - 1))
            hasher.update(stream.read(length))
        return hasher.hexdigest()
