"""Where pictures lie: a folder, a zip archive, or an LMDB database. Each gives names in a fixed order, and bytes."""

import os
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from graft_lightning.types import SettingsError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class PictureFiles(ABC):
    """Encoded pictures under names. The constructor opens nothing; a handle is opened once in each process.

    Args:
        path: of folder, archive or database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._opened: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_lock": None, "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    @cached_property
    def names(self) -> list[str]:
        """All pictures, sorted; without what macOS writes beside them under their names.

        Raises:
            SettingsError: if there is none.
        """
        found = sorted(name for name in self._names() if not _beside(name))
        if not found:
            raise SettingsError(f"path={self.path} holds no picture ({', '.join(SUFFIXES)})")
        return found

    def read(self, name: str) -> bytes:
        """One encoded picture; safe to be called from several threads."""
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


def _beside(name: str) -> bool:
    """Whether a name is that of the attributes which macOS keeps of a file; it ends as the file's own does."""
    *folders, last = name.split("/")
    return last.startswith("._") or "__MACOSX" in folders


class Folder(PictureFiles):
    """A folder and all folders below it."""

    def _names(self) -> list[str]:
        paths = (path for path in self.path.rglob("*") if path.suffix.lower() in SUFFIXES)
        return [path.relative_to(self.path).as_posix() for path in paths]

    def read(self, name: str) -> bytes:
        return self._read(name)  # files need no lock

    def _read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


class Zip(PictureFiles):
    """A zip archive, read in place."""

    def _open(self) -> Any:
        from zipfile import BadZipFile, ZipFile

        try:
            return ZipFile(self.path)
        except BadZipFile as error:
            raise SettingsError(f"path={self.path} is no zip archive, or a damaged one ({error})") from error

    def _names(self) -> list[str]:
        return [name for name in self._handle.namelist() if name.lower().endswith(SUFFIXES)]

    def _read(self, name: str) -> bytes:
        try:
            return self._handle.read(name)
        except Exception as error:  # BadZipFile, errors of zlib and lzma, RuntimeError where a password is needed
            raise SettingsError(
                f"{self.path}: {name} is damaged, or locked ({error}); make the archive again"
            ) from error


class Lmdb(PictureFiles):
    """An LMDB database of encoded pictures, as LSUN is distributed: a folder with ``data.mdb``, or one file."""

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
            return [key.hex() for key in cursor.iternext(keys=True, values=False)]

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
        _environments[path] = os.getpid(), environment
    return environment


def open_files(path: str) -> PictureFiles:
    """The right reader for a path.

    Raises:
        FileNotFoundError: if there is nothing.
        SettingsError: if it is none of the three.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise FileNotFoundError(f"path={path}: there is no such folder, zip archive or LMDB database")
    if (found / "data.mdb").is_file() or found.suffix in (".mdb", ".lmdb"):
        return Lmdb(found)
    if found.is_dir():
        return Folder(found)
    if found.suffix.lower() == ".zip":
        return Zip(found)
    raise SettingsError(f"path={path} is none of: a folder of pictures, a .zip, an LMDB database (folder or .mdb)")
