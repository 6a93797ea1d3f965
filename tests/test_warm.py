"""The ``python`` of `tests.warm` does what ``python`` does."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CLIENT = Path(__file__).parent / "warm" / "client.py"
SHOWS = """
import os, sys
print(os.getcwd(), os.environ["TOLD"], sys.argv, sys.path[0], __name__, sys.stdin.read())
print("graft_lightning" in sys.modules, file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize("kind", ["-c", "-m", "file"])
def test_a_program_is_run_as_python_runs_it(warm_python, tmp_path, kind):
    (tmp_path / "shows.py").write_text(SHOWS)
    words = {"-c": ["-c", SHOWS], "-m": ["-m", "shows"], "file": ["shows.py"]}[kind]
    environment = {**os.environ, "TOLD": "yes"}
    one, two = (
        subprocess.run(
            [python, *words, "a", "-b"], cwd=tmp_path, env=environment, input="in", capture_output=True, text=True
        )
        for python in (sys.executable, warm_python)
    )
    assert (one.returncode, one.stdout, one.stderr) == (two.returncode, two.stdout, two.stderr)
    assert one.returncode == 3


def gone(pid, seconds=20.0):
    """Whether a process ends, and is waited for by who started it, within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_program(warm_python, number):
    waits = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen([warm_python, "-c", waits], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        pid = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(20) == -number
        assert process.stdout.read() == b"", "nobody holds the other end"
    assert gone(pid), "it outlives its caller"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is python itself")
@pytest.mark.parametrize("server", ["raise SystemExit('no')", ""])
def test_without_a_server_it_is_python_itself(tmp_path, server):
    shutil.copyfile(CLIENT, tmp_path / "client.py")
    (tmp_path / "server.py").write_text(server)
    (tmp_path / "temporary").mkdir()
    line = [sys.executable, "-IS", tmp_path / "client.py", str(os.getpid()), "-c", "print(6 * 7); raise SystemExit(4)"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (4, "42\n"), done.stderr
