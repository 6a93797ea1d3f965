"""Manifests: what a folder of the pool was made with, created atomically, held to a checksum, compared key by key."""

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graft_lightning.durable import sync_folder
from graft_lightning.identity import differences, digest_of
from graft_lightning.refusals import Refusal
from graft_lightning.rejection.pool.schema import fault

FORMAT = "graft_lightning.pool"
VERSION = 2
FILE = "manifest.json"
CHECKSUM = "checksum"
OLD = (
    ". Pools of version 1 do not say what each of their files was made with, and cannot be read: choose another "
    "folder, and the next run draws its trajectories again"
)


class PoolError(Refusal, RuntimeError):
    """Anything that keeps a pool from being used as it was asked for."""


class NotAPool(PoolError):
    """The folder is something else, or of a version that this code does not read."""


class PoolMismatch(PoolError):
    """The pool was made with other settings than those it is asked for."""


class DamagedShard(PoolError):
    """A shard's file is truncated, or its bytes are not those that were written."""


def plain(value: Any, key: str = "fingerprint") -> Any:
    """``value`` as it will be read back from JSON: string keys, lists for tuples.

    Args:
        value: nested mappings and sequences of str, int, float, bool and None.
        key: its name in the error.

    Raises:
        TypeError: if something in it is of another type; names where.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{key}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"{key} is a {type(value).__name__}; str, int, float, bool, None, lists and dicts can be stored")


def require_same(where: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any], advice: str = "") -> None:
    """Compares what a folder was made with to what is asked for, in full.

    Args:
        where: the folder.
        stored: what its manifest says.
        wanted: what is asked for.
        advice: what can be done about a difference; another name, or another folder, by default.

    Raises:
        PoolMismatch: names the folder, each differing key and both values.
    """
    if lines := differences(stored, plain(wanted), "in the pool"):
        listed = "\n".join(f"  {line}" for line in lines)
        advice = advice or "Choose another name, or delete that folder."
        raise PoolMismatch(f"{where} was made with other settings:\n{listed}\n{advice}")


def claim_folder(folder: Path, kind: str, body: Mapping[str, Any]) -> None:
    """Creates ``folder`` together with its manifest in one step; of several processes the first one wins.

    Leaves a folder that is already there as it is, whatever it holds: `read_manifest` judges it.

    Args:
        folder: to be created, with its parents.
        kind: "pool", "round", "part", "level" or "reward".
        body: contents of the manifest.

    Raises:
        PoolError: if the folder cannot be made, as on a disk that is full or only to be read.
    """
    if (folder / FILE).exists():
        return
    manifest = {"format": FORMAT, "version": VERSION, "kind": kind, **plain(body, kind)}
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        with open(temporary / FILE, "x", encoding="utf-8") as file:
            json.dump({**manifest, CHECKSUM: digest_of(manifest)}, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(temporary)
        os.rename(temporary, folder)  # refuses a folder with anything in it
        sync_folder(folder.parent)
    except OSError as error:
        if not folder.exists():
            raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def cannot_write(path: Path, error: OSError) -> PoolError:
    """The error for a place that nothing can be written to."""
    return PoolError(
        f"{path} cannot be written: {error.strerror or error}. What a pool holds already is read all the same"
    )


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """The manifest of a folder of the given kind.

    Raises:
        FileNotFoundError: if there is no such folder.
        NotAPool: if it is no folder of this format, kind and version, lacks a key, has one of a wrong type, or was
            changed since it was written; says what was found.
    """
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: there is no {kind} here")
    try:
        manifest = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise NotAPool(f"{folder} is not a {kind}: it has no {FILE}, but {_contents(folder)}") from None
    except ValueError as error:
        raise NotAPool(f"{folder / FILE} cannot be read as JSON: {error}") from None
    found = manifest if isinstance(manifest, dict) else {}
    for key, right in (("format", FORMAT), ("kind", kind), ("version", VERSION)):
        if found.get(key) != right or isinstance(found[key], bool):
            old = OLD if key == "version" and found.get(key) == 1 else ""
            raise NotAPool(
                f"{folder / FILE}: {key} is {found.get(key)!r}; a {kind} that can be read has {right!r}{old}"
            )
    stored = found.pop(CHECKSUM, None)
    if (wrong := fault(kind, found)) is not None:
        raise NotAPool(f"{folder / FILE}: {wrong}")
    if stored != digest_of(found):
        raise NotAPool(
            f"{folder / FILE}: {CHECKSUM} is {stored!r}, and its contents have {digest_of(found)!r}: it was changed "
            f"after it was written. Put back what it held, or move {folder} away and make it again"
        )
    return found


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return "is a file"
    names: Sequence[str] = sorted(os.listdir(folder))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "is empty"
