"""What counts as a file of a data set: one rule for the folders and archives of every domain.

Folders that are linked to are followed, each real folder once, so that a loop of links ends. Hidden files and folders
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

    names = []
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
        names += [(place / name).relative_to(folder).as_posix() for name in files if not hidden(name)]
    return sorted(names, key=natural_path)


def without_links(folder: Path, names: Iterable[str]) -> list[str]:
    """Names below a folder without links to files that are there themselves, under names of the same kind; tells them.

    Where the file itself has a name of another kind, as in a store of contents, the link is what is meant.
    """
    names = list(names)
    links = {name for name in names if os.path.islink(folder / name)}
    real = os.path.realpath(folder)
    there = {(_suffix(name), os.path.join(real, name)) for name in names if name not in links} if links else set()
    twins = {name for name in links if (_suffix(name), os.path.realpath(folder / name)) in there}
    if twins:
        first = min(twins, key=natural_path)
        logger.warning("%s: passed over %d links to files that are there, such as %s", folder, len(twins), first)
    return [name for name in names if name not in twins]


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
