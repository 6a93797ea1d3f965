"""Writing files so that a kill or a full disk leaves the old one or the new one, never a part of one."""

import os
import secrets
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes a text beside its place, makes it durable, and puts it there in one step.

    Raises:
        OSError: if it cannot be written; what was there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
