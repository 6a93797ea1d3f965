import ctypes
import platform
import subprocess
import sys

import pytest

from graft_lightning.allocator import give_back_freed_memory, keep_freed_memory

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own settings")
HELD = """
from graft_lightning.allocator import give_back_freed_memory, keep_freed_memory

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

keep_freed_memory()
before = held()
blocks = [bytearray(b"1" * 10_000_000) for _ in range(30)]
last = blocks.pop()  # keeps the end of the heap in use
full = held()
blocks.clear()
freed = held()
give_back_freed_memory()
print(full - before, freed - before, held() - before)
"""


TRIED = """
import sys
from graft_lightning.allocator import freed_at_once, keep_freed_memory

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

def left():
    before = held()
    blocks = [bytearray(b"1" * 10_000_000) for _ in range(30)]
    last = bytearray(b"1" * 100_000)  # keeps the end of the heap in use
    full = held()
    blocks.clear()
    return full - before, held() - before

if sys.argv[1] == "kept":
    keep_freed_memory()
with freed_at_once():
    tried = left()
print(*tried, *left())
"""


@GLIBC
def test_glibc_listens():
    assert keep_freed_memory()
    assert give_back_freed_memory()


@GLIBC
def test_what_is_freed_is_kept_until_a_phase_ends():
    printed = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True).stdout
    full, freed, given_back = map(float, printed.split())
    assert 299 < full < 340
    assert freed >= 290  # 29 blocks of 10 MB, of which the next batch would have the same
    assert 9 < given_back < 40  # one block is held


@GLIBC
@pytest.mark.parametrize("setting", ["kept", "as glibc has it"])
def test_what_is_only_tried_leaves_nothing_behind(setting):
    """Afterwards freed memory is kept as before, or given back where it never was to be kept."""
    line = [sys.executable, "-c", TRIED, setting]
    full, tried, again, left = map(
        float, subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
    )
    assert full >= 299
    assert again >= 290
    assert tried < 40
    assert left >= 290 if setting == "kept" else left < 40


@pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])
@pytest.mark.parametrize("ask", [keep_freed_memory, give_back_freed_memory])
def test_other_libraries_are_left_alone(monkeypatch, error, ask):
    def refuse(name):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert not ask()
