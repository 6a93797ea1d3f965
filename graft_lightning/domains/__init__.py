"""The domains: everything that knows what the data is. They are found, not listed.

A domain is a package in this folder that imports none of the others but `base`. Its ``__init__`` imports the classes
that configurations may name by their bare names. What else it offers is a module of a name that a command looks for:

* ``score``: ``add_arguments(parser)`` and ``scores(options) -> dict``, the metrics of others' samples in files;
  `python -m graft_lightning score DOMAIN FILES`.
* ``export``: ``Tuned`` and ``export(...)``, a fine-tuned reference for use without this package;
  `python -m graft_lightning export RUN`, for the references of the domain.
* ``own_reward``: ``score(samples, conditions)``, whose text is the reward that `python -m graft_lightning new` writes.
"""

import importlib
import importlib.util
import logging
import pkgutil
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

log = logging.getLogger(__name__)

SHARED = "base"
"""What domains share is none."""

DEFINED = re.compile(r"^class (\w+)", re.M)


def names() -> list[str]:
    """The domains that are there, sorted; nothing of them is imported."""
    return sorted(found.name for found in pkgutil.iter_modules(__path__) if found.ispkg and found.name != SHARED)


def offering(what: str) -> list[str]:
    """The domains that have a module of this name, sorted; nothing of them is imported."""
    folders = {name: [str(Path(folder) / name) for folder in __path__] for name in names()}
    return [name for name in folders if what in {found.name for found in pkgutil.iter_modules(folders[name])}]


def load_all() -> None:
    """Imports every domain, so that configurations may name its classes by their bare names.

    One that cannot be imported is named in a warning, and keeps the others from nothing.
    """
    for name in names():
        _load(name)


def _load(name: str) -> None:
    try:
        importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        log.warning("the domain %s cannot be imported: %s", name, error)


def load_named(texts: Iterable[str]) -> None:
    """Imports the domains that some texts name: by a dotted path, or by the bare name of a class written in one.

    Args:
        texts: configurations and the words of a command line.
    """
    words = {word for text in texts for word in re.findall(r"[A-Za-z_][\w.]*", text)}
    for name in names():
        if any(word.startswith(f"{__name__}.{name}.") for word in words) or words & _written_in(name, tuple(__path__)):
            _load(name)


def unloaded() -> list[str]:
    """The domains that nobody has imported yet."""
    return [name for name in names() if f"{__name__}.{name}" not in sys.modules]


@cache
def _written_in(name: str, folders: tuple[str, ...]) -> frozenset[str]:
    """The names of classes in a domain's files, and all names of its ``__init__``; imports nothing."""
    found: set[str] = set()
    for folder in folders:
        for file in Path(folder, name).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            pattern = r"\w+" if file.parent == Path(folder, name) and file.stem == "__init__" else DEFINED
            found |= {word for word in re.findall(pattern, text) if word[0].isupper()}
    return frozenset(found)


def offered(name: str, what: str) -> ModuleType:
    """The module that a domain offers.

    Raises:
        ImportError: if it cannot be imported.
    """
    return importlib.import_module(f"{__name__}.{name}.{what}")


def offered_beside(kind: type, what: str) -> ModuleType | None:
    """The module of this name in the package that a class, or one of its bases, was written in; None if there is none.

    Holds for domains outside of this folder too.
    """
    for base in kind.__mro__:
        package = base.__module__.rpartition(".")[0]
        if package and importlib.util.find_spec(f"{package}.{what}") is not None:
            return importlib.import_module(f"{package}.{what}")
    return None
