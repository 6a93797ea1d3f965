"""Memory that was freed is kept for the next tensor, where the C library is glibc.

By default glibc gives large blocks back to the system at once, so that every large tensor begins with a page fault for
each of its pages: sampling on a CPU takes up to twice as long.
"""

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Of malloc.h."""

KEPT = 1 << 30
"""Bytes: free memory below this is kept, and blocks below this come from it."""


def keep_freed_memory() -> bool:
    """Says so to the C library. Returns whether it listened."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or none that can be asked
        return False
    settings = ((M_MMAP_THRESHOLD, KEPT), (M_TRIM_THRESHOLD, KEPT), (M_TOP_PAD, 1 << 26))
    done = [mallopt(parameter, value) for parameter, value in settings]
    return all(result == 1 for result in done)
