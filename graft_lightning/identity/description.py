"""An object in plain values: what decides its results, and nothing else."""

import enum
import functools
import inspect
import json
import os
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from graft_lightning.identity.arguments import Kept, kept_arguments, state
from graft_lightning.identity.digests import digest, digest_of, text_digest
from graft_lightning.identity.files import content
from graft_lightning.identity.source import Sources, is_users

SECRET = {"secret", "secrets", "token", "password", "passwords", "passwd", "passphrase", "credential", "credentials"}
SECRET_ENDS = re.compile(r"(api|access|private|secret|auth)_?key$")
IN_ADDRESS = re.compile(r"(?<=://)([^/@\s]*:)([^/@\s]+)(?=@)")
IN_QUERY = re.compile(r"([?&][^=&]*(?:secret|token|password|key|signature)[^=&]*=)([^&#\s]+)", re.IGNORECASE)


SHORTEST = 6
"""Characters of a secret that is looked for inside longer texts."""

_HIDDEN: set[str] = set()


def hide(values: Iterable[str]) -> None:
    """Has descriptions show these texts as digests from now on, wherever they stand: they came from the environment."""
    _HIDDEN.update(value for value in values if value)


class _Above(NamedTuple):
    """What a description was reached through.

    Attributes:
        holders: ids of the objects that hold the described one.
        evidence: whether objects are asked for what their attributes do not tell.
    """

    holders: tuple[int, ...] = ()
    evidence: bool = False


def describe(value: Any, evidence: bool = False) -> Any:
    """A plain (JSON-able) description of an object: its class and its public attributes, recursively.

    * A class or function that the user wrote brings digests of its source text, name by name
      (`graft_lightning.identity.source` says whose code is the user's, and how much of it counts); a lambda or inner
      function also what it has captured.
    * Tensors and arrays are described by a digest; an ``nn.Module`` by its weights, buffers, attributes and parts.
    * A path, and a text that names an existing file or folder, is described by its last name and a digest of what is
      there (`content`), so that a moved file is the same and an edited one is not.
    * Attributes that start with an underscore are state, not identity, but for those in which a user's class keeps
      arguments of its constructor (``self._s = scale``; `graft_lightning.identity.arguments` says which). State are
      also others that methods of a user's class write to (a counter, a network that is loaded late), and what a metric
      of torchmetrics has seen. Nor is it identity where something is computed or kept: devices, ``training``, and
      folders in attributes named ``cache``.
    * Secrets are never in it: of attributes and keys named secret, token, password, credentials or ``…_key``, and of
      passwords in addresses, there is only a digest; and of what `hide` was told.

    Args:
        value: anything.
        evidence: ask the objects whose attributes do not tell it all. They have a method ``evidence()`` for the rest,
            and a digest of the text that it returns is added; it may import a module or ask a server.
    """
    return _describe(value, _Above((), evidence))


def _describe(value: Any, above: _Above) -> Any:
    if isinstance(value, enum.Enum):
        name = f"{_name(type(value))}.{value.name}"
        return {"name": name, "value": _describe(value.value, above)} if is_users(type(value)) else name
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, PurePath):
        return _pointed(Path(value)) or str(value)
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes {text_digest(bytes(value))}"
    if isinstance(value, np.generic):
        return _describe(value.item(), above)
    if isinstance(value, Tensor):
        return digest([value])
    if isinstance(value, np.ndarray):
        return _of_array(value, above)
    if id(value) in above.holders:
        return f"the {type(value).__qualname__} that holds it"
    above = above._replace(holders=(*above.holders, id(value)))
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        items = _items(value, above)
        return {**_of_object(value, above), "items": items} if is_users(type(value)) else items
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return _of_code(value, above)
    if isinstance(value, types.MethodType):
        return {"method": _name(value.__func__), "of": _describe(value.__self__, above)}
    if isinstance(value, functools.partial):
        arguments = [_describe(item, above) for item in (*value.args, value.keywords)]
        return {"partial": _describe(value.func, above), "arguments": arguments}
    if isinstance(value, torch.Generator):
        return {"class": _name(type(value)), "seed": value.initial_seed()}
    return _of_object(value, above)


def _items(value: Any, above: _Above) -> Any:
    """What a container holds."""
    if isinstance(value, Mapping):
        return {str(key): _item(str(key), item, above) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(item, above) for item in value]
    return sorted((_describe(item, above) for item in value), key=lambda item: json.dumps(item, sort_keys=True))


def _text(value: str) -> str:
    try:
        path = Path(value).expanduser()
        # a bare word may happen to be the name of a folder here
        if path.is_file() or (path.is_dir() and (os.sep in value or "/" in value or path.suffix)):
            return _pointed(path) or value
    except (OSError, ValueError, RuntimeError):  # too long for a name, or no home
        pass
    if value in _HIDDEN:
        return f"secret {text_digest(value)}"
    for secret in sorted(_HIDDEN, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            value = value.replace(secret, text_digest(secret))
    value = IN_ADDRESS.sub(lambda found: found[1] + text_digest(found[2]), value)
    return IN_QUERY.sub(lambda found: found[1] + text_digest(found[2]), value) if "://" in value else value


def _pointed(path: Path) -> str | None:
    """Name and content of a file or folder; None where there is none, or one that holds everything."""
    here = Path.cwd()
    if not path.exists() or path.resolve() in (here, *here.parents, Path.home()):
        return None
    return f"{path.resolve().name if path.name in ('', '..') else path.name} {content(path)}"


def _of_array(value: np.ndarray, above: _Above) -> Any:
    if value.dtype.kind in "biufc":
        return digest([torch.from_numpy(np.ascontiguousarray(value))])
    return _describe(value.tolist(), above)


def _of_code(value: Any, above: _Above) -> Any:
    """A class or function itself: its name, and where it is the user's its source."""
    parts = _source(value, above)
    return {"name": _name(value), "source_text": parts} if parts else _name(value)


def describe_users(value: Any, parts: Iterable[Any] = (), beside: frozenset[str] = frozenset()) -> dict[str, Any]:
    """What a user's class adds to a description that is made key by key: its code and its settings.

    Args:
        value: an object; nothing is told of one whose class is not the user's, nor any of its bases.
        parts: objects that it makes, such as the modules of a network: the code of theirs counts, and what they hold
            is described elsewhere.
        beside: names of methods, class attributes and settings of ``value`` that decide no result.

    Returns:
        ``code``, digests by dotted name, and ``settings`` by name; empty where there is nothing to tell. Folders count
        by their names: what lies in them besides is not the model's. Settings of bases that are not the user's are
        theirs to tell.
    """
    kind, parts = type(value), list(parts)
    if not any(is_users(base) for base in kind.__mro__):
        return {}
    sources = Sources(of=kind, beside=beside, by_text=True)
    for one in dict.fromkeys([kind, *map(type, parts)]):
        sources.add(one)
    above = _Above((id(value), *map(id, parts)))
    held = {name: _describe(item, above) for name, item in sorted(sources.values.items())}
    left_out = beside | _told_by_bases(kind)
    settings = {
        name: (None if any(map(_is_secret, (name, *made))) else _folder(item)) or _item(name, item, above, made)
        for name, item, made in _settings(value)
        if name not in left_out
    }
    return {"code": _parts(sources, held), "settings": settings}


def _folder(value: Any) -> str | None:
    """A folder, by its last name where its place is told; the same before it is made. None of anything else."""
    if not isinstance(value, str | PurePath) or (isinstance(value, str) and os.sep not in value):
        return None
    try:
        path = Path(value).expanduser()
        if path.is_file() or not (path.is_absolute() or path.is_dir()):
            return None
    except (OSError, ValueError, RuntimeError):  # too long for a name, or no home
        return None
    return path.name if path.is_absolute() else str(value)


def _told_by_bases(kind: type) -> set[str]:
    """Settings of bases that are not the user's, and of all bases what is computed once it is asked for."""
    found: set[str] = set()
    for base in kind.__mro__:
        found |= {name for name, item in vars(base).items() if isinstance(item, functools.cached_property)}
        init = vars(base).get("__init__")
        if not is_users(base) and inspect.isfunction(init):
            found |= set(inspect.signature(init).parameters)
    return found


class SourceText(str):
    """The source of a user's code as one text.

    Attributes:
        parts: digests of what it consists of, by dotted name, so that a difference can be named.
    """

    parts: dict[str, str]


def source_text(value: Any) -> SourceText:
    """The source of a user's class or function and of all that it refers to, as one text; empty for others' code.

    What it has captured or reads from a module stands there as a digest, for it may be a secret.
    """
    sources, held = _sources(value, _Above())
    values = [f"# values {digest_of(held)}"] if sources.texts else []
    text = SourceText("\n\n".join([*(f"# {name}\n{part}" for name, part in sorted(sources.texts.items())), *values]))
    text.parts = _parts(sources, held)
    return text


def _sources(value: Any, above: _Above) -> tuple[Sources, dict[str, Any]]:
    sources = Sources()
    sources.add(value)
    return sources, {name: _describe(item, above) for name, item in sorted(sources.values.items())}


def _parts(sources: Sources, held: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: text_digest(text) for name, text in sorted(sources.texts.items())}
    return texts and texts | {f"value of {name}": digest_of(item) for name, item in held.items()}


def _source(value: Any, above: _Above) -> dict[str, str] | None:
    return _parts(*_sources(value, above)) or None


def _of_object(value: Any, above: _Above, weights: bool = True) -> Any:
    kind = type(value)
    own: dict[str, Any] = {"class": _name(kind)}
    if any(is_users(base) for base in kind.__mro__):
        own["source_text"] = _source(kind, above)
    if isinstance(value, nn.Module):
        if weights:
            own["weights"] = digest(tensor for _, tensor in _tensors(value))
        # a dropout's rate is no weight
        parts = {name: _of_object(part, above, weights=False) for name, part in value.named_children()}
        own |= {"parts": parts} if parts else {}
    elif not hasattr(value, "__dict__") and not any("__slots__" in vars(base) for base in kind.__mro__):
        text = repr(value)
        return own["class"] if " at 0x" in text else text
    if "__wrapped__" in getattr(value, "__dict__", {}):  # what a decorator made of a function
        own["wraps"] = _describe(value.__wrapped__, above)
    if above.evidence and callable(getattr(kind, "evidence", None)) and (evidence := value.evidence()):
        told = getattr(evidence, "parts", None) or text_digest(str(evidence))
        own["evidence"] = evidence if isinstance(evidence, dict | list) else told
    attributes = {name: _item(name, item, above, made_of) for name, item, made_of in _settings(value)}
    return {**own, **{f"{name}_" if name in own else name: item for name, item in attributes.items()}}


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by name, those too that a checkpoint leaves out."""
    return [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]


def _attributes(value: Any) -> list[tuple[str, Any]]:
    """Name and value of each attribute, sorted by name."""
    found = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else slots
        found |= {name: getattr(value, name) for name in names if name[:2] != "__" and hasattr(value, name)}
    if isinstance(value, nn.Module):
        found.pop("training", None)
    return sorted(found.items())


def _counts(name: str, value: Any) -> bool:
    """Whether an attribute is a setting: neither state nor the place where something is computed or kept."""
    if name.startswith("_") or isinstance(value, torch.device):
        return False
    return not _is_place(name, value)


def _is_place(name: str, value: Any) -> bool:
    """Whether a value says where something is computed or kept."""
    place = name == "device" or "cache" in name.split("_")
    return isinstance(value, torch.device) or (place and isinstance(value, str | PurePath))


def _is_kept(kept: Kept | None, value: Any) -> bool:
    """Whether an attribute counts because the constructor keeps arguments in it."""
    if kept is None or any(_is_place(name, value) for name in kept.names):
        return False
    return _is_plain(value) or (kept.whole and value is not None)


def _settings(value: Any) -> Iterator[tuple[str, Any, Iterable[str]]]:
    """Attributes that are settings: name, value, and the names of the constructor's arguments that it was made of."""
    kind = type(value)
    parameters, kept, written = _parameters(kind), kept_arguments(kind), state(kind)
    seen = getattr(value, "metric_state", {})  # of a metric of torchmetrics
    for name, item in _attributes(value):
        of_its_name = name in parameters and _is_plain(item) and not _is_place(name.lstrip("_"), item)
        if name in written:
            counts = of_its_name
        else:
            counts = _counts(name, item) or of_its_name or _is_kept(kept.get(name), item)
        if counts and name not in seen:
            yield name, item, kept[name].names if name in kept else ()


def _parameters(kind: type) -> set[str]:
    """Attributes that have the name of an argument of a user's constructor, with an underscore or without."""
    if not is_users(kind):
        return set()
    try:
        parameters = inspect.signature(kind).parameters
    except (TypeError, ValueError):
        return set()
    return {f"{dashes}{name}" for name in parameters for dashes in ("", "_", f"_{kind.__name__.lstrip('_')}__")}


def _is_plain(value: Any) -> bool:
    """Whether a value is written down and not loaded: what is loaded late is state."""
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return isinstance(value, bool | int | float | complex | str | bytes | PurePath | Tensor | np.ndarray | np.generic)


def _item(name: str, value: Any, above: _Above, made_of: Iterable[str] = ()) -> Any:
    described = _describe(value, above)
    secret = any(map(_is_secret, (name, *made_of)))
    return f"secret {digest_of(described)}" if secret and not isinstance(value, bool | None) else described


def _is_secret(name: str) -> bool:
    """Whether something of that name is a secret."""
    words = set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_").replace(".", "_").split("_"))
    return bool(words & SECRET or SECRET_ENDS.search(name.lower().replace("-", "_")))


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"
