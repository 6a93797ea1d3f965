"""What decides a reward's scores, as one short string: the key under which scores may be kept."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graft_lightning.rejection.fingerprint import describe
from graft_lightning.rejection.reward import Reward


def identity(reward: Reward) -> dict[str, Any]:
    """Class and settings of a reward, of the rewards inside it, and evidence of what the settings point to.

    A setting that is a path brings names, sizes and times of the files there. A reward whose settings do not tell it
    all (a function's code, a server's model) has a method ``evidence() -> str`` for the rest.
    """
    settings = describe(reward)
    return {
        "reward": settings,
        "files": {text: _files(Path(text)) for text in sorted(set(_texts(settings))) if _is_path(text)},
        "evidence": _evidence(reward),
    }


def fingerprint(reward: Reward) -> dict[str, Any]:
    """What a pool keeps of a reward: settings and evidence, but not the times of files: a copied pool outlives them."""
    evidence = _evidence(reward)
    return {**describe(reward), **({"evidence": digest_of({"evidence": evidence})} if any(evidence) else {})}


def digest_of(description: dict[str, Any]) -> str:
    """A digest of a plain description, 16 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(description, sort_keys=True).encode(), digest_size=8).hexdigest()


def _evidence(reward: Reward) -> list[str]:
    return [inner.evidence() for inner in _nested(reward) if hasattr(inner, "evidence")]


def _nested(value: Any) -> Iterator[Any]:
    if isinstance(value, Reward):
        yield value
        value = vars(value)
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for child in children:
        yield from _nested(child)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(child)


def _is_path(text: str) -> bool:
    try:
        return bool(text) and Path(text).exists()
    except OSError:  # too long for a name
        return False


def _files(path: Path) -> list[list[Any]]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    found = [(str(file.relative_to(path)), file.stat()) for file in files if file.is_file()]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in found]
