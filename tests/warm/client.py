"""What ``python`` does with its arguments, done by a process that has the large libraries already.

``python -IS client.py OWNER ...`` stands for ``python ...``: a module (``-m``), a text (``-c``) or a file. Directory,
environment and open files are this process's own, signals go on to the other one, which dies with it. The first client
starts the server, which ends with its owner, a process; where none can be started it is ``python`` that does it.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PATIENCE = 120
"""Seconds within which a server answers."""


def connected(owner: int) -> socket.socket:
    """A connection to the owner's server, which is started where there is none.

    Raises:
        ConnectionError: if it does not start.
    """
    folder = Path(tempfile.gettempdir()) / f"warm-{os.getuid()}-{owner}"
    folder.mkdir(mode=0o700, exist_ok=True)
    within = os.open(folder, os.O_RDONLY)
    short = f"/proc/self/fd/{within}/socket"  # an address has 107 letters at most
    with (folder / "lock").open("w") as lock, (folder / "log").open("a") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found, server, end = answering(short), None, time.monotonic() + PATIENCE
        while found is None and time.monotonic() < end:
            if server is None:
                (folder / "socket").unlink(missing_ok=True)  # of a server that is gone
                line = [sys.executable, str(Path(__file__).with_name("server.py")), str(owner), str(folder)]
                server = subprocess.Popen(
                    line, cwd="/", start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            elif server.poll() is not None:
                break
            time.sleep(0.02)
            found = answering(short)
    os.close(within)
    if found is None:
        raise ConnectionError(f"no server of {folder}")
    return found


def answering(address: str) -> socket.socket | None:
    """A connection, where somebody answers."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        return None
    return connection


def number(connection: socket.socket) -> int:
    """Eight bytes from the server.

    Raises:
        EOFError: if it is gone.
    """
    told = connection.recv(8, socket.MSG_WAITALL)
    if len(told) < 8:
        raise EOFError("the server is gone")
    return int.from_bytes(told, "big")


def inherited() -> list[int]:
    """Descriptors of open files that this process was started with."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # of the listing itself
            if os.get_inheritable(int(name)):
                found.append(int(name))
    return sorted(found)


def main() -> None:
    """Has the program run, and ends as it did."""
    owner, *words = sys.argv[1:]
    files = inherited()
    parts = [os.getcwd(), " ".join(map(str, files)), str(len(words)), *words]
    parts += [f"{name}={value}" for name, value in os.environ.items()]
    told = "\0".join(parts).encode(errors="surrogateescape")
    try:
        connection = connected(int(owner))
        socket.send_fds(connection, [len(told).to_bytes(8, "big")], files)
        connection.sendall(told)
        program = number(connection)
    except (OSError, EOFError):
        os.execv(sys.executable, [sys.executable, *words])
    with connection:
        for passed_on in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(passed_on, lambda given, _: os.kill(program, given))
        status = number(connection)
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
