"""The lock of a pool: one run at a time fills it."""

import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graft_lightning.rejection.pool.manifest import cannot_write

log = logging.getLogger(__name__)
ABANDONED = 3600
"""Seconds after which a temporary file that nobody has written to belongs to a process that died."""


@contextlib.contextmanager
def locked(pool: Path) -> Iterator[None]:
    """Holds the lock of a pool; see `TrajectoryPool.locked`."""
    try:
        file = open(pool / "lock", "a+", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise cannot_write(pool, error) from error
    with file:
        _acquire(pool, file)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        _sweep(pool)
        try:
            yield
        finally:  # not left to close(): a worker forked meanwhile holds the file open too
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)


@contextlib.contextmanager
def locked_if_free(pool: Path) -> Iterator[bool]:
    """Holds the lock of a pool that nobody fills just now, as far as that can be known; tells whether it does."""
    try:
        file = open(pool / "lock", "a+", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)


def _acquire(pool: Path, file: Any) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        log.warning("%s is being filled by %s; waiting for it", pool, file.read() or "another process")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:  # some cluster file systems are mounted without locks
        log.warning("%s cannot be locked (%s): see to it that no two runs fill it at once", pool, error)


def _sweep(pool: Path) -> None:
    """Removes what processes that were killed while writing have left."""
    for path in pool.rglob(".*.safetensors.*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # another process commits its shard just now
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()
