"""``verify``: proof of an export, in a fresh process that knows nothing of this package."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from graft_lightning import domains
from graft_lightning.cli.command import Command

TASK = "verify.json"
"""What an export says is to be drawn again."""


def run_verify(args: Sequence[str]) -> None:
    """Draws the images of an export again with plain diffusers and compares them with the run's own.

    Of the export nothing but data is read: the code that runs is this package's.

    Raises:
        SystemExit: 1 if they differ or if fine-tuning has no effect, 2 if there is nothing to verify, or if a
            file is not as it was exported.
    """
    parser = Command("verify", run_verify)
    parser.add_argument("folder", type=Path, help="folder that `export` wrote")
    parser.add_argument("--base", help="folder, hub id or file of the base model; that of the export by default")
    parser.add_argument("--device", help="cpu by default")
    parser.add_argument("--tolerance", type=float, help="greatest share of the latents' size; the export's by default")
    options = parser.parse_args(list(args))
    if not (options.folder / TASK).is_file():
        parser.error(f"{options.folder / TASK} is absent; `export` writes it")
    # our own copy, not the export's, which its receiver may not trust; isolated: no PYTHONPATH, and no traces
    line = [sys.executable, "-I", "-B", str(own_script()), str(options.folder)]
    for name in ("base", "device", "tolerance"):
        if getattr(options, name) is not None:
            line.append(f"--{name}={getattr(options, name)}")
    done = subprocess.run(line, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def own_script() -> Path:
    """The script of this package that verifies exports; nothing of its domain is imported.

    Raises:
        FileNotFoundError: if no domain has one.
    """
    for folder in domains.__path__:
        for name in domains.offering("export"):
            script = Path(folder) / name / "export" / "verify.py"
            if script.is_file():
                return script
    raise FileNotFoundError("no domain of this installation verifies exports; install the package anew")
