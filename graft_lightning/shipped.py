"""What ships with the package: the small weights of ``data/`` and the files of ``experiments/``, wherever they lie.

In a checkout they stand beside the package; a wheel carries them inside it (``package_dir`` in ``setup.cfg``).
"""

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
EXPERIMENTS = "experiments"
YAML = (".yaml", ".yml")

_said: set[Path] = set()
"""Configurations of which this process has said where they lie."""


def shipped(name: str) -> Path:
    """Where a file or folder that ships lies, as ``data`` or ``experiments/digits/pgraft.yaml``; it need not exist."""
    inside = PACKAGE / "installed"
    return (inside if inside.is_dir() else PACKAGE.parent) / name


def config_file(name: str | Path) -> Path:
    """A configuration: the file of that name, or else the one that ships, which is said in one line, once.

    Only names ``experiments/...`` are looked for; others are returned as they are, also where nothing is there.
    """
    file = Path(name)
    if file.exists() or file.suffix not in YAML or file.parts[:1] != (EXPERIMENTS,) or ".." in file.parts:
        return file
    found = shipped(file.as_posix())
    if not found.is_file():
        return file
    if found not in _said:
        _said.add(found)
        sys.stderr.write(f"{file} is not in this folder; taken from what ships: {found}\n")
    return found


def importable() -> None:
    """Lets ``experiments.mnist.model`` and the like be imported, after what the working folder has of that name."""
    root = str(shipped(""))
    if root not in sys.path:
        sys.path.append(root)
