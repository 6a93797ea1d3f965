"""Which files hold molecules, by their suffix and, where that says too little, by their first line."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from graft_lightning.domains.base.archives import COMPRESSIONS
from graft_lightning.domains.molecules.sdf import sdf_records
from graft_lightning.domains.molecules.twins import Entry
from graft_lightning.domains.molecules.xyz import COUNT, xyz_frames

READERS: dict[str, Callable[[Iterable[str], object], Iterator[Entry]]] = {
    ".xyz": xyz_frames,
    ".sdf": sdf_records,
    ".mol": sdf_records,
    ".sd": sdf_records,
    ".extxyz": xyz_frames,
    ".txt": xyz_frames,
}
"""By suffix, before that of a compression."""

GUESSED = ".txt"
"""EDM writes its samples as xyz under this suffix; other texts have it too. Those that begin with a count are meant."""

TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")

READABLE = (
    "xyz, sdf or mol (also .extxyz, EDM's .txt, .gz, .bz2, .xz), a folder of them, or a tar or zip archive of them"
)


def if_frames(lines: Iterator[str], path: Path) -> Iterator[str] | None:
    """The lines again if the first that is not blank is a number of atoms; None otherwise.

    A text of nothing passes where its name ends in a number, as those of samples do.
    """
    seen = []
    for line in lines:
        seen.append(line)
        if line.strip():
            return chain(seen, lines) if COUNT.fullmatch(line) else None
    return iter(seen) if re.fullmatch(r".*\d", stem_of(path.name)) else None


def kind_of(name: str) -> str | None:
    """The suffix that names the reader; None for other kinds."""
    name = _uncompressed(name)
    return next((suffix for suffix in READERS if name.endswith(suffix)), None)


def stem_of(name: str) -> str:
    """A name without the suffixes that tell of format and compression."""
    return name[: len(_uncompressed(name)) - len(kind_of(name) or "")]


def _uncompressed(name: str) -> str:
    """A name in small letters, without the suffix of a compression."""
    name = name.lower()
    return next((name.removesuffix(suffix) for suffix in COMPRESSIONS if name.endswith(suffix)), name)
