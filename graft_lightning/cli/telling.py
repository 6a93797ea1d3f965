"""One place that turns whatever goes wrong into one message: exit code 2 for what a user can put right, 1 for the rest.

The traceback is shown where ``--debug`` or the environment variable GRAFT_DEBUG asks for it.
"""

import contextlib
import errno
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from graft_lightning.cli.pipes import unread
from graft_lightning.refusals import Refusal, first_line

DEBUG = "GRAFT_DEBUG"
INSTALLED = ("site-packages", "dist-packages")
STANDARD = sysconfig.get_paths()["stdlib"]
PACKAGE = str(Path(__file__).resolve().parents[1])
DISK = "free some space or choose another folder, and run the same command again: it goes on where it was"
ADVICE = {
    errno.ENOSPC: DISK,
    errno.EDQUOT: DISK,
    errno.EFBIG: DISK,
    errno.EACCES: "choose a folder or file that you may use, or change its permissions",
    errno.EPERM: "choose a folder or file that you may use, or change its permissions",
    errno.EROFS: "choose a folder on another file system",
    errno.ENOTDIR: "name a folder",
    errno.EISDIR: "name a file",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
LIGHTNINGS = {"MisconfigurationException", "OmegaConfBaseException", "YAMLError", "ParserError"}
"""Errors of libraries that are about settings, by name: nothing is imported to recognise them."""


def debugging() -> bool:
    """Whether tracebacks are asked for."""
    return os.environ.get(DEBUG, "") not in ("", "0")


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """Inside, errors end the process with one message on standard error.

    Raises:
        SystemExit: 2 where a user can put it right, 1 otherwise.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, BrokenPipeError) and unread():
            raise
        if debugging():
            traceback.print_exc()
        message, code = told(error)
        if message:
            sys.stderr.write(f"error: {message}\n")
        raise SystemExit(code) from None


def told(error: BaseException) -> tuple[str, int]:
    """What is said of an error, and the exit code; nothing where another process has said it."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "ProcessRaisedException" in kinds:
        return _of_a_process(str(error))
    if "ProcessExitedException" in kinds and getattr(error, "exit_code", None) == 2:
        return "", 2
    if isinstance(error, Refusal):
        return str(error).strip(), 2
    if isinstance(error, OSError):
        return _of_the_system(error), 2
    if isinstance(error, MemoryError) or "OutOfMemoryError" in kinds:
        return f"out of memory ({first_line(error)}); lower collect.batch_size, data.batch_size or eval_batch_size", 2
    if kinds & LIGHTNINGS:
        return " ".join(str(error).split()), 2
    return f"{type(error).__name__}: {first_line(error)} ({_where(error)}); --debug shows the traceback", 1


def _of_the_system(error: OSError) -> str:
    if error.errno is None or error.strerror is None:
        return str(error).strip() or type(error).__name__
    name = f"{error.filename}: " if error.filename is not None else ""
    advice = ADVICE.get(error.errno)
    return f"{name}{error.strerror}" + (f"; {advice}" if advice else "")


def _where(error: BaseException) -> str:
    """The last place in this package, or in a user's file, that an error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f.filename.startswith(PACKAGE) or not _is_installed(f.filename)]
    if not (ours or frames):
        return "nowhere"
    frame = (ours or list(frames))[-1]
    return f"{frame.filename}, line {frame.lineno}"


def of_somebodys(error: BaseException | None) -> str | None:
    """What a user's code raised in the course of an error, and where; None where it was not the user's."""
    while error is not None:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_library(f.filename)]
        if frames and not frames[-1].filename.startswith(PACKAGE) and not isinstance(error, Refusal):
            said = first_line(error)
            kind = "" if type(error) is ValueError or said == type(error).__name__ else f"{type(error).__name__}: "
            return f"{kind}{said} ({frames[-1].filename}, line {frames[-1].lineno})"
        error = error.__cause__ or error.__context__
    return None


def _is_library(file: str) -> bool:
    return _is_installed(file) or file.startswith(("<", STANDARD))


def _is_installed(file: str) -> bool:
    return any(folder in file for folder in INSTALLED)


def _of_a_process(text: str) -> tuple[str, int]:
    """What is said of an error in a forked process, out of the traceback that it left."""
    refusals = {kind.__name__ for kind in _descendants(Refusal)} | LIGHTNINGS
    raised = [m for m in re.finditer(r"^(?:\w+\.)*(\w+): ", text, re.M) if m[1] in refusals or m[1].endswith("Error")]
    if not raised:
        return f"a process failed: {text.strip().splitlines()[-1]}; --debug shows the traceback", 1
    message = text[raised[-1].end() :].strip()
    if raised[-1][1] in refusals:
        return message, 2
    first = message.partition("\n")[0]
    return f"{raised[-1][1]} in one of the processes: {first}; --debug shows the traceback", 1


def _descendants(kind: type) -> Iterator[type]:
    yield kind
    below: list[type] = kind.__subclasses__()
    for found in below:
        yield from _descendants(found)
