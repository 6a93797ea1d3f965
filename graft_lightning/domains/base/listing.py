"""What counts as a file of a data set: one rule for the folders and archives of every domain.

Folders that are linked to are followed, each real folder once, so that a loop of links ends; a link to a file that is
there itself, under a name of the same kind, is no second one. Hidden files and folders
and what macOS packs beside files (``__MACOSX``, ``._name``) are passed by; what is of another kind is counted, by
suffix, and told.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from graft_lightning.types import SettingsError

logger = logging.getLogger(__name__)


def hidden(name: str) -> bool:
    """Whether a relative name is hidden, lies in a hidden folder, or is a record that macOS keeps of a file."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in parts)


def files_below(folder: Path) -> list[str]:
    """The names of all files below a folder, relative to it, in natural order; a link to nothing counts as a file.

    Raises:
        SettingsError: if a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise SettingsError(f"the folder {error.filename} cannot be listed ({error.strerror}); make it readable")

    names: list[str] = []
    links: list[str] = []
    seen = {_identity(folder)}
    for here, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        place = Path(here)
        kept = []
        # Real folders first, so that a folder and a link to it beside it are known by the folder's own name.
        for name in sorted(folders, key=lambda name: (place.joinpath(name).is_symlink(), natural(name))):
            identity = _identity(place / name)
            if not hidden(name) and identity not in seen:
                seen.add(identity)
                kept.append(name)
        folders[:] = kept
        for name in files:
            if not hidden(name):
                found = names if not os.path.islink(place / name) else links
                found.append((place / name).relative_to(folder).as_posix())
    real = os.path.realpath(folder)
    there = {(_suffix(name), os.path.join(real, name)) for name in names} if links else set()
    names += [name for name in links if (_suffix(name), os.path.realpath(folder / name)) not in there]
    return sorted(names, key=natural_path)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts ``m2`` before ``m10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def natural_path(name: str) -> list[list[tuple[int, str]]]:
    """`natural` for every part of a relative name."""
    return [natural(part) for part in name.split("/")]


def by_suffix(names: Iterable[str]) -> str:
    """How many names there are of which suffix, the most frequent first: ``3 .json, 1 .tar.gz, 1 without suffix``."""
    counted = Counter(_suffix(name) for name in names)
    return ", ".join(f"{number} {suffix or 'without suffix'}" for suffix, number in counted.most_common())


def _suffix(name: str) -> str:
    path = PurePosixPath(name.lower())
    inner = PurePosixPath(path.stem).suffix
    return inner + path.suffix if path.suffix in (".gz", ".bz2", ".xz") and inner else path.suffix


def tell_passed_over(place: object, names: Iterable[str], wanted: str) -> None:
    """Warns of files that are passed over, by suffix; says nothing of none."""
    names = list(names)
    if names:
        them = "1 file that is" if len(names) == 1 else f"{len(names)} files that are"
        logger.warning("%s: passed over %s no %s: %s", place, them, wanted, by_suffix(names))
