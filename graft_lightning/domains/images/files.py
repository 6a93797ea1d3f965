"""Where images lie: a folder, a zip archive, or an LMDB database. Each gives names in a fixed order, and bytes."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from graft_lightning.domains.base.archives import DAMAGE, damage_named, open_zip, zip_files, zip_links
from graft_lightning.domains.base.listing import by_suffix, files_below, hidden, tell_passed_over, without_links
from graft_lightning.types import SettingsError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jpe", ".jfif", ".apng", ".avif", ".jp2"),
    *(".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".dib", ".qoi", ".pcx", ".sgi", ".ico"),
)
"""Images of pixels that Pillow reads; files of other kinds are passed over, and their number is told."""

COUNTERS = (b"length", b"__len__", b"__keys__", b"num-samples")
"""Keys of databases under which the number or the list of the images stands, and no image."""

RESOLUTION = re.compile(rb"(\d+)-(\d+)")
"""A key of databases that hold every image several times: its side in pixels, and its number."""


class EncodedImages(ABC):
    """Encoded images under names. The constructor opens nothing; a handle is opened once in each process.

    Args:
        path: of folder, archive or database.
        size: pixels that are wanted; decides which is taken where an image is there in several resolutions.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self.path, self.size = path, size
        self._lock = Lock()
        self._opened: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_lock": None, "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    @cached_property
    def names(self) -> list[str]:
        """All images, sorted; without hidden ones. Tells how many files of other kinds there are.

        Raises:
            SettingsError: if there is none.
        """
        visible = [name for name in self._names() if not hidden(name)]
        found = sorted(set(filter(self._wanted, visible)))  # an archive that was added to has a name twice
        others = [name for name in visible if not self._wanted(name)]
        if not found:
            instead = f", but {by_suffix(others)}" if others else ""
            raise SettingsError(f"path={self.path} holds no image ({', '.join(SUFFIXES)}){instead}")
        tell_passed_over(self.path, others, "image")
        return found

    def _wanted(self, name: str) -> bool:
        return name.lower().endswith(SUFFIXES)

    def shown(self, name: str) -> str:
        """An image as messages name it."""
        return str(self.path / name)

    def read(self, name: str) -> bytes:
        """One encoded image; safe to be called from several threads."""
        with self._lock:
            return self._read(name)

    @property
    def _handle(self) -> Any:
        # neither file positions nor databases survive a fork
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), self._open()
        return self._opened[1]

    def _open(self) -> Any:
        return None

    @abstractmethod
    def _names(self) -> list[str]: ...

    @abstractmethod
    def _read(self, name: str) -> bytes: ...


class Folder(EncodedImages):
    """A folder and all folders below it, linked ones too."""

    def _names(self) -> list[str]:
        return without_links(self.path, files_below(self.path))

    def read(self, name: str) -> bytes:
        return self._read(name)  # files need no lock

    def _read(self, name: str) -> bytes:
        try:
            with damage_named(self.path / name):
                return (self.path / name).read_bytes()
        except FileNotFoundError as error:
            raise SettingsError(f"{self.path / name} is a link to nothing, or was taken away") from error


class Zip(EncodedImages):
    """A zip archive, read in place."""

    def _open(self) -> Any:
        return open_zip(self.path)

    def _names(self) -> list[str]:
        return [member.filename for member in zip_files(self._handle)] + zip_links(self._handle)

    def _read(self, name: str) -> bytes:
        try:
            return self._handle.read(name)
        except DAMAGE as error:
            raise SettingsError(
                f"{self.path}: {name} is damaged, or locked ({error}); make the archive again"
            ) from error


class Lmdb(EncodedImages):
    """An LMDB database of encoded images, as LSUN is distributed: a folder with ``data.mdb``, or one file.

    Where the keys tell that every image is there in several resolutions (``256-00017``, and the number of images under
    ``length``), one is taken: the smallest that is at least as large as what is wanted, else the largest. Such a number
    must be right.
    """

    def _open(self) -> Any:
        try:
            import lmdb
        except ModuleNotFoundError:
            raise SettingsError(f"path={self.path} is an LMDB database: pip install graft_lightning[images]") from None
        try:
            return _environment(self.path.resolve())
        except lmdb.Error as error:
            raise SettingsError(f"path={self.path} is no LMDB database, or a damaged one ({error})") from error

    def _names(self) -> list[str]:
        with self._handle.begin() as transaction, transaction.cursor() as cursor:
            keys = [bytes(key) for key in cursor.iternext(keys=True, values=False) if key not in COUNTERS]
            told = [bytes(transaction.get(key, b"")) for key in COUNTERS]
        parted = [RESOLUTION.fullmatch(key) for key in keys]
        numbers: dict[int, list[bytes]] = {}
        for found in filter(None, parted):
            numbers.setdefault(int(found[1]), []).append(found[2])
        # All numbers at every resolution: keys of class and number look alike, but seldom are.
        if all(parted) and len({tuple(sorted(one)) for one in numbers.values()}) == 1:
            side = self._side(numbers)
            keys = [key for key in keys if key.startswith(b"%d-" % side)]
        count = next((int(text) for text in told if text.isdigit()), len(keys))
        if count != len(keys):
            raise SettingsError(
                f"path={self.path} is an LMDB database that says it holds {count} images, and has {len(keys)}: "
                "some are missing, or something else is there; make it again"
            )
        return [key.hex() for key in keys]

    def _side(self, sides: Iterable[int]) -> int:
        enough = [side for side in sides if self.size is not None and side >= self.size]
        return min(enough, default=max(sides))

    def _wanted(self, name: str) -> bool:
        return True

    def shown(self, name: str) -> str:
        return f"{self.path}, key {bytes.fromhex(name).decode(errors='backslashreplace')!r}"

    def _read(self, name: str) -> bytes:
        with self._handle.begin() as transaction:
            return transaction.get(bytes.fromhex(name))


_environments: dict[Path, tuple[int, Any]] = {}


def _environment(path: Path) -> Any:
    """An LMDB environment, of which a process may have one only: parts of one set share it."""
    import lmdb

    process, environment = _environments.get(path, (0, None))
    if process != os.getpid():
        if environment is not None:
            environment.close()  # of the process that this one was forked from; it keeps its own
        environment = lmdb.open(
            str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False, meminit=False
        )
        file = path / "data.mdb" if path.is_dir() else path
        used = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if file.stat().st_size < used:  # what lies beyond the end of a mapped file ends the process
            environment.close()
            raise SettingsError(
                f"path={path} is an LMDB database that was cut short ({file.stat().st_size} of {used} bytes); get it "
                "again"
            )
        _environments[path] = os.getpid(), environment
    return environment


def open_files(path: str, size: int | None = None) -> EncodedImages:
    """The right reader for a path.

    Args:
        path: of folder, archive or database.
        size: pixels that are wanted.

    Raises:
        FileNotFoundError: if there is nothing.
        SettingsError: if it is none of the three.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise FileNotFoundError(f"path={path}: there is no such folder, zip archive or LMDB database")
    if (found / "data.mdb").is_file() or found.suffix.lower() in (".mdb", ".lmdb"):
        return Lmdb(found, size)
    if found.is_dir():
        return Folder(found, size)
    if found.suffix.lower() == ".zip":
        return Zip(found, size)
    raise SettingsError(f"path={path} is none of: a folder of images, a .zip, an LMDB database (folder or .mdb)")
