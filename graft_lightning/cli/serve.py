"""``serve``: a reward in an environment of its own, for `RemoteReward` to ask."""

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from graft_lightning.cli.command import Command
from graft_lightning.durable import write_text
from graft_lightning.refusals import SettingsError

READY = ".graft_lightning"
"""In an environment that was made here: what was installed into it."""


def run_serve(args: Sequence[str]) -> None:
    """Makes a virtual environment, once, and serves a function from it: MODULE:FUNCTION of samples and conditions.

    Raises:
        SystemExit: 2 if the environment cannot be made.
    """
    parser = Command("serve", run_serve)
    parser.add_argument("score", help="module:function; the module is looked for here")
    parser.add_argument("--venv", type=Path, help="folder of the environment, made if absent; this one by default")
    parser.add_argument("--requirements", type=Path, help="file for pip: what the reward needs beside numpy")
    parser.add_argument("--python", default=sys.executable, help="that makes the environment; this one by default")
    parser.add_argument("--host", default="127.0.0.1", help="anything but the loopback is open to the network")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    told = "a text that changes when the scores would; by default a digest of the module's file and its neighbours"
    parser.add_argument("--identity", default="", help=told)
    options = parser.parse_args(list(args))
    python = environment(options.venv, options.requirements, options.python) if options.venv else sys.executable
    server = Path(__file__).parents[1] / "rejection" / "rewards" / "server.py"
    line = [python, str(server), options.score, f"--host={options.host}", f"--port={options.port}"]
    os.execv(python, [*line, f"--identity={options.identity}"])


def environment(folder: Path, requirements: Path | None, python: str) -> str:
    """The interpreter of an environment that has numpy and what is required; made, or made anew, where it has not.

    Raises:
        SettingsError: if the requirements are absent, or pip refuses them.
    """
    if requirements is not None and not requirements.is_file():
        raise SettingsError(f"--requirements={requirements} is absent; name a file of pip's, one package a line")
    wanted = f"{python}\n" + (requirements.read_text(encoding="utf-8") if requirements else "")
    folder = folder.expanduser().absolute()
    own = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    mark = folder / READY
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted and own.exists():
        return str(own)
    if python == sys.executable:
        venv.create(folder, with_pip=True)
    else:
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    line = [str(own), "-m", "pip", "install", "--quiet", "numpy"]
    done = subprocess.run([*line, *(["-r", str(requirements)] if requirements else [])], check=False)
    if done.returncode:
        raise SettingsError(f"--requirements={requirements}: pip cannot install them into {folder}; it says why above")
    write_text(mark, wanted)
    return str(own)
