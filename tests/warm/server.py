"""Imports what takes seconds, once, and forks a process for each program that a `client` asks for.

Nothing of the package that is tested is imported here, and no program sees what another one has done. What libraries
read of the environment as they are imported is that of the first client.
"""

import fcntl
import gc
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import types
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import jsonargparse  # noqa: F401
import lightning.pytorch.cli  # noqa: F401
import matplotlib.figure  # noqa: F401
import omegaconf  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline, StableDiffusionXLPipeline  # noqa: F401

MOST_FILES = 64
OUT_OF_THE_WAY = 500
"""No caller has a descriptor of this number."""


def python_path() -> list[str]:
    """The folders that the environment adds."""
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


PATH = sys.path[1 + len(python_path()) :]
"""Without the folder of this file, and without what the environment of the first client has added."""


def program(owner: int, folder: Path) -> list[str]:
    """Serves as long as the owner lives; returns in processes that are to be a program, with its words."""
    living = os.pidfd_open(owner)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(folder)  # an address has 107 letters at most
        listener.bind("new")
        listener.listen(64)
        os.rename("new", "socket")
        gc.freeze()
        while True:
            ready, _, _ = select.select([listener, living], [], [])
            if living in ready:
                break
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    os.close(living)
                    listener.close()
                    return attended(connection)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def attended(connection: socket.socket) -> list[str]:
    """Tells the caller how its program ended, and ends the program where the caller is gone.

    Returns in the program's own process.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, files, _, _ = socket.recv_fds(connection, 8, MOST_FILES)
    length = int.from_bytes(head, "big")
    text = connection.recv(length, socket.MSG_WAITALL)
    pid = os.fork()
    if pid == 0:
        connection.close()
        return become(files, *text.decode(errors="surrogateescape").split("\0"))
    for file in files:
        os.close(file)
    connection.sendall(pid.to_bytes(8, "big"))
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([ended, connection], [], [])
    if ended not in ready:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):
        connection.sendall(status.to_bytes(8, "big"))
    os._exit(0)


def become(files: Sequence[int], folder: str, numbers: str, count: str, *rest: str) -> list[str]:
    """Takes the open files, the directory and the environment of the caller. Returns the words of the program."""
    os.setsid()
    out_of_the_way = [fcntl.fcntl(file, fcntl.F_DUPFD, OUT_OF_THE_WAY) for file in files]
    for file in files:
        os.close(file)
    for file, number in zip(out_of_the_way, numbers.split(), strict=True):
        os.dup2(file, int(number))
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(pair.split("=", 1) for pair in rest[int(count) :])
    return list(rest[: int(count)])


def run(words: list[str]) -> None:
    """What ``python`` does with these words.

    Raises:
        ValueError: on an option of Python's own.
    """
    first, *more = words
    alone = False
    while first in ("-I", "-B", "-u"):  # the last two change nothing that is looked at
        alone, (first, *more) = alone or first == "-I", more
    sys.path[:] = PATH
    if not alone:
        sys.path[:0] = python_path()
    if first == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv[:] = more
        runpy.run_module(more[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.path.insert(0, "")
        sys.argv[:] = ["-c", *more[1:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(more[0], "<string>", "exec"), vars(main))
    elif first.startswith("-"):
        raise ValueError(f"{first} is an option of Python's own, which this process has started without")
    else:
        if not alone:
            sys.path.insert(0, str(Path(first).resolve().parent))
        sys.argv[:] = [first, *more]
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    # the first client may be a process that waits for none: multiprocessing starts its tracker so
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    run(program(int(sys.argv[1]), Path(sys.argv[2])))
