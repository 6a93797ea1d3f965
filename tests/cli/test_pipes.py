"""Commands whose output is read in part."""

import subprocess
import sys

import pytest


def read_in_part(program):
    """How a program ends whose output nobody reads, and what it says of that."""
    process = subprocess.Popen(
        [sys.executable, *program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=0
    )
    process.stdout.close()
    said = process.stderr.read()
    return process.wait(), said


LONG = """
import sys
from graft_lightning.cli.pipes import while_read
from graft_lightning.cli.telling import telling
with while_read(), telling():
    {}
"""


@pytest.mark.parametrize(
    "program",
    [
        ["-m", "graft_lightning", "--help"],
        ["-m", "graft_lightning", "fit", "--help"],
        ["-c", LONG.format("for _ in range(10000): print('x' * 100)")],
        ["-c", LONG.format("print('short')")],
    ],
    ids=["help", "help of a command", "many lines", "a line that waits in a buffer"],
)
def test_a_command_that_nobody_reads_ends_quietly(program):
    assert read_in_part(program) == (141, "")


def test_another_pipe_that_breaks_is_told():
    broken = "raise BrokenPipeError(32, 'Broken pipe', 'http://server')"
    process = subprocess.run([sys.executable, "-c", LONG.format(broken)], capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert process.stderr.startswith("error: http://server: Broken pipe")
