"""The lock of a sweep's cell: one process runs it, of however many machines that share the folder.

Two things hold it. A lock of the file system (``flock``) lasts as long as any process of this machine that has
inherited it, however the sweep was killed; but file systems that several machines share often keep it to one of them.
So there is a lease too, a file that only one of them can create, which names machine and process and is touched while
the cell runs: one that nobody touches any more is taken over.
"""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import time
from pathlib import Path

STALE = 120.0
"""Seconds after which a lease that another machine does not touch is taken over."""

BEAT = 15.0
"""Seconds between two touches."""


class Held(RuntimeError):
    """Somebody else holds the lock.

    Attributes:
        host: the machine that holds it, as far as it is known.
        here: whether that is this one.
    """

    def __init__(self, host: str, process: str, here: bool) -> None:
        super().__init__(f"process {process}" if here else f"process {process} of {host}")
        self.host, self.here = host, here


class CellLock:
    """A lock that has been taken.

    Args:
        file: of the lock; the lease lies beside it.

    Raises:
        Held: if another process has it, here or on another machine.

    Attributes:
        descriptor: who inherits it goes on holding the lock on this machine.
    """

    def __init__(self, file: Path) -> None:
        self._lease = file.with_name(f"{file.name}.lease")
        self._nonce = secrets.token_hex(8)
        self._touched = time.monotonic()
        self.descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take(file)
        except BaseException:
            os.close(self.descriptor)
            raise

    def _take(self, file: Path) -> None:
        locked = True
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(_read(self._lease)) from None
        except OSError:  # a file system without locks
            locked = False
        while not self._create():
            there = _read(self._lease)
            if there is None:
                continue  # given back just now
            here = there["host"] == socket.gethostname()
            os.utime(file)  # by the clock that also dates the lease
            gone = (locked or not _alive(there["pid"])) if here else _age(self._lease, file) > STALE
            if not gone:
                raise _held(there)
            _remove(self._lease, there["nonce"])

    def _create(self) -> bool:
        try:
            descriptor = os.open(self._lease, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w") as file:
            json.dump({"host": socket.gethostname(), "pid": os.getpid(), "nonce": self._nonce}, file)
            file.flush()
            os.fsync(file.fileno())
        return True

    def touch(self) -> None:
        """Says that the holder is alive, once every `BEAT` seconds however often it is called."""
        if time.monotonic() - self._touched > BEAT:
            self._touched = time.monotonic()
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._lease)

    def release(self) -> None:
        """Gives the lock back; processes that have inherited it still hold it on this machine."""
        _remove(self._lease, self._nonce)
        os.close(self.descriptor)


def _read(lease: Path) -> dict[str, str] | None:
    """What stands in a lease; None where there is none."""
    try:
        found = json.loads(lease.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:  # being written
        found = {}
    known = found if isinstance(found, dict) else {}
    return {key: str(known.get(key, "unknown")) for key in ("host", "pid", "nonce")}


def _held(there: dict[str, str] | None) -> Held:
    host = there["host"] if there else "unknown"
    return Held(host, there["pid"] if there else "unknown", host in ("unknown", socket.gethostname()))


def _alive(pid: str) -> bool:
    return pid.isdigit() and Path(f"/proc/{pid}").exists()


def _age(lease: Path, now: Path) -> float:
    try:
        return now.stat().st_mtime - lease.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(lease: Path, nonce: str) -> None:
    """Removes a lease if it is still the one that was read: of two that find it stale one may be faster."""
    taken = lease.with_name(f"{lease.name}.{secrets.token_hex(4)}")
    try:
        os.rename(lease, taken)
    except FileNotFoundError:
        return
    found = _read(taken)
    if found is not None and found["nonce"] != nonce:
        with contextlib.suppress(FileExistsError):
            os.link(taken, lease)
    taken.unlink()
