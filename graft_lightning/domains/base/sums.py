"""Folders that others read too, such as those of ``save_pretrained``: a list of checksums, in the form of sha256sum.

The list is written last: a folder that has one is complete. ``sha256sum -c SHA256SUMS`` checks it without this package.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from graft_lightning.durable import write_text
from graft_lightning.refusals import damaged

SUMS = "SHA256SUMS"
REMEDY = "write or fetch the folder again"


def write_sums(folder: Path, among: Iterable[str] = ("",)) -> None:
    """Writes the checksums of files below a folder, hidden ones left out.

    Args:
        folder: of the files, and of the list.
        among: files and folders in it that count; all by default.
    """
    found = {file for name in among for file in [folder / name, *(folder / name).rglob("*")] if file.is_file()}
    names = sorted(file.relative_to(folder).as_posix() for file in found)
    listed = [name for name in names if name != SUMS and not any(part[0] == "." for part in name.split("/"))]
    write_text(folder / SUMS, "".join(f"{sha256(folder / name)}  {name}\n" for name in listed))


def check_sums(folder: Path, remedy: str = REMEDY) -> None:
    """Holds the files below a folder against their checksums, where it has a list of them.

    Args:
        folder: of the files.
        remedy: what to do where one is damaged, as an imperative.

    Raises:
        DamagedFile: if one is absent, or its bytes are not those that were written; names it.
    """
    listed = folder / SUMS
    if not listed.is_file():
        return
    for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
        known, _, name = line.partition("  ")
        file = folder / name
        if not name or len(known) != 64:
            raise damaged(listed, f"a line of it is no checksum ({line[:80]!r})", remedy)
        if not file.is_file():
            raise damaged(file, f"it is absent, but {SUMS} lists it", remedy)
        if sha256(file) != known:
            raise damaged(file, f"its bytes are not those that {SUMS} lists", remedy)


def sha256(file: Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    hasher = hashlib.sha256()
    with open(file, "rb") as opened:
        while block := opened.read(1 << 17):
            hasher.update(block)
    return hasher.hexdigest()
