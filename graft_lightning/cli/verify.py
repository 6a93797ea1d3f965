"""``verify``: proof of an export, in a fresh process that knows nothing of this package."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def run_verify(args: Sequence[str]) -> None:
    """Draws the images of an export again with plain diffusers and compares them with the run's own.

    Raises:
        SystemExit: 1 if they differ or if fine-tuning has no effect, 2 if there is nothing to verify.
    """
    parser = argparse.ArgumentParser(prog="python -m graft_lightning verify", description=run_verify.__doc__)
    parser.add_argument("folder", type=Path, help="folder that `export` wrote")
    parser.add_argument("--base", help="folder, hub id or file of the base model; that of the export by default")
    parser.add_argument("--device", help="cpu by default")
    parser.add_argument("--tolerance", type=float, help="greatest difference, as a share of the latents' size")
    options = parser.parse_args(list(args))
    script = options.folder / "verify.py"
    if not script.is_file():
        parser.error(f"{script} is absent; `export` writes it")
    line = [sys.executable, "-I", "-B", str(script)]  # isolated: no PYTHONPATH, no working directory; and no traces
    for name in ("base", "device", "tolerance"):
        if getattr(options, name) is not None:
            line.append(f"--{name}={getattr(options, name)}")
    done = subprocess.run(line, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
