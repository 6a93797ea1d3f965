"""Checkpoints that know whether they are intact. No torch: who looks for the newest needs none.

A file of `torch.save` is a zip archive, and its comment, which every reader skips, holds a digest of all other bytes.
An archive without one (another program's, or an older one) has the checksums of its parts, which torch never takes.
"""

import hashlib
import zipfile
from pathlib import Path
from typing import BinaryIO

END, SIZE = b"PK\5\6", 22
"""How the last record of an archive begins, and its bytes without the comment."""

MARK = b"graft_lightning blake2b "
HEX = 32
COMMENT = len(MARK) + HEX
CHUNK = 1 << 22


def seal(path: Path) -> None:
    """Writes the digest of an archive into its comment; leaves alone what is no archive, or has a comment already."""
    with open(path, "r+b") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - SIZE))
        end = file.read(SIZE)
        if len(end) < SIZE or not end.startswith(END) or end[-2:] != bytes(2):
            return
        file.seek(size - 2)
        file.write(COMMENT.to_bytes(2, "little"))
        file.seek(0, 2)
        file.write(MARK + _digest(file, size))


def fault(path: Path) -> str | None:
    """What is wrong with a checkpoint; None where it is intact, or is a folder, whose parts its own reader checks.

    Raises:
        FileNotFoundError: if it is absent.
    """
    if path.is_dir():
        return None
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        if not size:
            return "it is empty"
        whole = size - COMMENT
        file.seek(max(0, whole - SIZE))
        tail = file.read()
        if whole >= SIZE and tail.startswith(END):
            sealed = tail[SIZE - 2 : SIZE] == COMMENT.to_bytes(2, "little") and tail[SIZE:] == MARK + _digest(
                file, whole
            )
            return None if sealed else "its bytes are not those that were written"
    return _fault_of_archive(path)


def _digest(file: BinaryIO, size: int) -> bytes:
    """Of the first ``size`` bytes, as hexadecimal digits."""
    hasher = hashlib.blake2b(digest_size=HEX // 2)
    file.seek(0)
    while size:
        part = file.read(min(CHUNK, size))
        hasher.update(part)
        size -= len(part)
    return hasher.hexdigest().encode()


def _fault_of_archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        return f"it is truncated, or no checkpoint of torch ({error})"
    return f"the checksum of {wrong} in it is wrong" if wrong else None
