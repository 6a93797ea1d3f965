"""How much memory the system gives this process, beyond what its tensors need: blocks of other sizes, code, buffers."""

import re
from pathlib import Path

from graft_lightning.allocator import give_back_freed_memory

PROCESS = Path("/proc/self")
"""Where Linux says what a process holds; absent elsewhere."""


class ResidentGrowth:
    """The growth of this process at most, from now on.

    The C library serves tensors of many sizes from the same memory, where one rarely fits exactly what another has
    left: a training step may take half as much again as its tensors.
    """

    def __init__(self) -> None:
        give_back_freed_memory()
        self._known = _begin_anew()
        self._before = _bytes("VmRSS") if self._known else 0

    @property
    def most(self) -> int:
        """Bytes; 0 where the system does not say."""
        return max(_bytes("VmHWM") - self._before, 0) if self._known else 0


def _begin_anew() -> bool:
    """Has the system forget the process's greatest size. Returns whether it could."""
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _bytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", (PROCESS / "status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
