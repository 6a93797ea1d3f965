"""Processes that die by SIGKILL in the middle of a call: nothing can be tidied up."""

import os
import signal

import pytest


def killed(work) -> None:
    """Does ``work`` in a forked process, which must die by SIGKILL."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was not killed: the point is never reached"
    assert os.WTERMSIG(status) == signal.SIGKILL


def die_at(patch: pytest.MonkeyPatch, where, name: str, number: int, chosen=lambda *a: True) -> None:
    """Has the process killed in the middle of the call of this number."""
    original, calls = getattr(where, name), []

    def and_die(*arguments, **options):
        if chosen(*arguments):
            calls.append(1)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    patch.setattr(where, name, and_die)
