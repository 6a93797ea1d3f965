"""Output that is piped to a program that stops reading, such as ``head``: the command ends there, quietly."""

import contextlib
import os
import select
import sys
from collections.abc import Iterator

NOBODY_READS = 141
"""The exit code of a program that SIGPIPE has ended."""


@contextlib.contextmanager
def while_read() -> Iterator[None]:
    """Inside, a command may print as if somebody read it to the end.

    Raises:
        SystemExit: 141, where nobody reads standard output any more.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        if not unread():
            raise
        # what is left cannot be written; at its end Python would try to, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(NOBODY_READS) from None


def unread() -> bool:
    """Whether it is standard output that nobody reads, and not some other pipe or connection that broke."""
    try:
        asked = select.poll()
        asked.register(sys.stdout.fileno(), 0)
        return any(found & (select.POLLERR | select.POLLHUP) for _, found in asked.poll(0))
    except (AttributeError, OSError):  # a system without poll, an output that is no file
        return False
