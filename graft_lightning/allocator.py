"""Memory that was freed is kept for the next tensor, where the C library is glibc, and given back between phases.

By default glibc gives large blocks back to the system at once, so that every large tensor begins with a page fault for
each of its pages: sampling on a CPU takes up to twice as long. Kept blocks serve tensors of their own size, which are
those of the next batch; another phase of a run has others, and would need its memory beside them.
"""

import contextlib
import ctypes
from collections.abc import Iterator

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Of malloc.h."""

KEPT = 1 << 30
"""Bytes: free memory below this is kept, and blocks below this come from it."""

AT_ONCE = 1 << 18
"""Bytes: where nothing is to be kept, blocks above this are given back as soon as they are free."""


_keeping = False


def keep_freed_memory() -> bool:
    """Says so to the C library. Returns whether it listened."""
    global _keeping
    _keeping = _set((M_MMAP_THRESHOLD, KEPT), (M_TRIM_THRESHOLD, KEPT), (M_TOP_PAD, 1 << 26))
    return _keeping


def _set(*settings: tuple[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or none that can be asked
        return False
    done = [mallopt(parameter, value) for parameter, value in settings]
    return all(result == 1 for result in done)


@contextlib.contextmanager
def freed_at_once() -> Iterator[None]:
    """Inside, large tensors leave nothing behind: what is tried afterwards finds memory as if they had not been.

    Among the blocks of what was tried before, of which small ones are still in use, a training step takes up to a third
    more memory than in a run.
    """
    kept = _keeping
    if kept:
        _set((M_MMAP_THRESHOLD, AT_ONCE))
    try:
        yield
    finally:
        if kept:
            _set((M_MMAP_THRESHOLD, KEPT))


def give_back_freed_memory() -> bool:
    """Gives back what is kept, as a phase of other sizes begins. Returns whether the C library could be asked."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return False
    trim(0)
    return True
