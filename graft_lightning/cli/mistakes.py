"""What is wrong with a configuration that the parser has refused: the key with its whole path, and what would be right.

The parser tries one type after another, and tells of each; here a configuration is held against the types of the
arguments from its root on, and the first setting that cannot be meant is found. It is asked after a refusal alone, so
that what it does not know, it lets pass.
"""

import collections.abc
import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from graft_lightning.cli.settings import class_at, why_not_at
from graft_lightning.ranges import Range, element, leaves, parameters

PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}
LISTS = (list, tuple, set, collections.abc.Sequence, collections.abc.Iterable)
MAPPINGS = (dict, collections.abc.Mapping)
NEVER_NAMED = (Path, torch.Tensor, torch.dtype, torch.device)
"""Types that are no classes for a configuration to name."""
OF_A_CLASS = ("class_path", "init_args", "dict_kwargs")
SHOWN = 12
"""Names that an error lists; more of them help nobody."""


def mistakes(
    settings: Mapping[str, Any], sections: Mapping[str, Any], declared: Mapping[str, Any], refused: str
) -> Iterator[str]:
    """Sentences on settings that cannot be meant, each with the whole path of its key, its value, and what is right.

    Args:
        settings: as they were written, those of the command line among them.
        sections: by key, the class whose arguments stand directly below it.
        declared: by key, the type of what stands there.
        refused: what the parser said; a class that hands arguments on has none of those that it names.
    """
    for key, value in settings.items():
        if key in sections and isinstance(value, Mapping):
            yield from _arguments(sections[key], value, key, refused)
        elif key in declared:
            yield from _within(declared[key], value, key, refused)


def _within(annotation: Any, value: Any, path: str, refused: str) -> Iterator[str]:
    """Mistakes in a value, and in what is inside it."""
    parts = [part for part in leaves(annotation) if not _declared(part)]
    if value is None or Any in parts or (isinstance(value, str) and "${" in value):
        return
    parts = [_made(part) for part in parts]
    classes = [part for part in parts if _is_class(part)]
    if isinstance(value, Mapping) and "class_path" in value and classes:
        yield from _of_a_class(classes, value, path, refused)
    elif isinstance(value, list | tuple):
        listed = [part for part in parts if (typing.get_origin(part) or part) in LISTS]
        if not listed:
            yield f"{path}={_shown(value)}: it must be {_wanted(parts)}, not a list"
        for place, item in enumerate(value) if listed else ():
            yield from _within(element(annotation), item, f"{path}[{place}]", refused)
    elif isinstance(value, Mapping) and any(dataclasses.is_dataclass(part) for part in classes):
        yield from _arguments(next(part for part in classes if dataclasses.is_dataclass(part)), value, path, refused)
    elif isinstance(value, Mapping):
        if classes and not any((typing.get_origin(part) or part) in MAPPINGS for part in parts):
            yield f"{path}: it has settings and no class; say which: {_named(_choices(classes))}"
        elif not any((typing.get_origin(part) or part) in MAPPINGS or _is_class(part) for part in parts):
            yield f"{path}={_shown(value)}: it must be {_wanted(parts)}, not a mapping"
    elif not any(_fits(part, value) for part in parts):
        names = [part for part in classes if _resolved(value, [part]) is not None] if isinstance(value, str) else []
        for part in names[:1]:
            yield from _abstract_class(_resolved(value, [part]), classes, f"{path}={value}")
        if classes and isinstance(value, str) and not names and not {int, float, str} & set(parts):
            yield f"{path}={value}: {_no_class(value, classes)}"
        elif not names:
            yield f"{path}={_shown(value)}: it must be {_wanted(parts)}"


def _of_a_class(classes: list[Any], value: Mapping[str, Any], path: str, refused: str) -> Iterator[str]:
    """Mistakes in a class and its arguments."""
    name = str(value["class_path"])
    kind = _resolved(name, classes)
    if kind is None:
        yield f"{path}={name}: {_no_class(name, classes)}"
        return
    yield from _abstract_class(kind, classes, f"{path}={name}")
    for key in value:
        if key not in OF_A_CLASS:
            yield f"{path}.{key}: it must stand below init_args, as the settings of {kind.__name__} do"
    given = value.get("init_args") or {}
    if isinstance(given, Mapping):
        yield from _arguments(kind, given, path, refused)


def _arguments(kind: Any, given: Mapping[str, Any], path: str, refused: str) -> Iterator[str]:
    """Mistakes in the arguments of a class."""
    known = parameters(kind)
    for name, value in given.items():
        if name in known and value is None and known[name][1] is not None:
            parts = list(leaves(known[name][0]))
            if types.NoneType not in parts and Any not in parts:
                yield f"{path}.{name} is empty: it must be {_wanted([_made(part) for part in parts])}"
        elif name in known:
            yield from _within(known[name][0], value, f"{path}.{name}", refused)
        elif name not in OF_A_CLASS and (not _takes_anything(kind) or f"{name}'" in refused):
            close = difflib.get_close_matches(name, known, n=1)
            right = f"did you mean '{close[0]}'?" if close else f"it has {_named(known) or 'none'}"
            yield f"{path}.{name}: {kind.__name__} has no such setting; {right}"


def _fits(part: Any, value: Any) -> bool:
    """Whether a value that is neither list nor mapping can be of a type."""
    if typing.get_origin(part) is typing.Literal:
        return value in typing.get_args(part) or str(value) in map(str, typing.get_args(part))
    if part is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if part is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if part in (bool, str):
        return isinstance(value, part) or (part is str and not isinstance(value, bool))
    if _is_class(part) or (typing.get_origin(part) or part) in (*LISTS, *MAPPINGS, types.NoneType):
        return False
    return part not in NEVER_NAMED or (part is Path and isinstance(value, str))


def _wanted(parts: list[Any]) -> str:
    """Types in words."""
    words = [PLAIN[part] for part in parts if part in PLAIN]
    literals = [option for part in parts for option in _options(part)]
    words += [f"one of {', '.join(dict.fromkeys(map(str, literals)))}"] if literals else []
    words += ["a list"] if any((typing.get_origin(part) or part) in LISTS for part in parts) else []
    words += ["a mapping"] if any((typing.get_origin(part) or part) in MAPPINGS for part in parts) else []
    kinds = [part for part in parts if _is_class(part)]
    words += [f"the class of a {kinds[0].__name__}"] if kinds and not words else []
    return " or ".join(words) or "something else"


def _options(part: Any) -> tuple[Any, ...]:
    return typing.get_args(part) if typing.get_origin(part) is typing.Literal else ()


def _no_class(name: str, classes: list[Any]) -> str:
    """Why a name is not that of a class that fits, and what would be right."""
    choices = _choices(classes)
    base = classes[0].__name__ if classes else "class"
    if "." in name and class_at(name) is not None:
        return f"this is no {base}; there are {_named(choices)}"
    why = why_not_at(name) if "." in name else None
    if why is not None and "cannot be imported" in why:
        return why
    close = difflib.get_close_matches(name.rpartition(".")[2], choices, n=1)
    right = f"did you mean '{close[0]}'?" if close else f"there are {_named(choices)}" if choices else ""
    return f"{why or f'there is no {base} of this name, or it cannot be imported'}; {right}".rstrip("; ")


def _abstract_class(kind: Any, classes: list[Any], what: str) -> Iterator[str]:
    """That a class lacks methods of what it is to be."""
    lacking = sorted(getattr(kind, "__abstractmethods__", ()))
    base = next((base.__name__ for base in classes if isinstance(kind, type) and issubclass(kind, base)), "such class")
    if lacking:
        yield f"{what}: {kind.__name__} lacks {_named(lacking)}, which every {base} must have"


def _choices(classes: list[Any]) -> list[str]:
    return sorted({kind.__name__ for kind in _below(classes) if not _abstract(kind)})


def _below(classes: list[Any]) -> Iterator[type]:
    """Classes and those derived from them, as far as they are loaded."""
    waiting, seen = list(classes), set()
    while waiting:
        kind = waiting.pop()
        if kind not in seen:
            seen.add(kind)
            waiting += type.__subclasses__(kind)
            yield kind


def _resolved(name: str, classes: list[Any]) -> Any:
    """The class, or the function that makes one, of a name; None where none of them fits."""
    if "." not in name:
        return next((kind for kind in _below(classes) if kind.__name__ == name), None)
    found = class_at(name)
    fits = not isinstance(found, type) or not classes or any(issubclass(found, base) for base in classes)
    return found if callable(found) and fits else None


def _made(part: Any) -> Any:
    """What a callable makes, where a configuration names its class, as ``Callable[[...], Optimizer]`` does."""
    returned = typing.get_args(part)[-1:] if typing.get_origin(part) is collections.abc.Callable else ()
    return returned[0] if returned and _is_class(returned[0]) else part


def _is_class(part: Any) -> bool:
    """Whether a type is a class that a configuration names."""
    return (
        isinstance(part, type)
        and typing.get_origin(part) is None
        and part.__module__ != "builtins"
        and part not in (*LISTS, *MAPPINGS, *NEVER_NAMED, types.NoneType)
    )


def _declared(part: Any) -> bool:
    """What stands beside a type in an annotation, such as a range."""
    return isinstance(part, Range)


def _abstract(kind: Any) -> bool:
    return inspect.isabstract(kind) or kind.__name__.startswith(("_", "Lightning"))


def _takes_anything(kind: Any) -> bool:
    """Whether a class hands on arguments that it does not name."""
    makers = [base.__dict__.get("__init__") for base in kind.__mro__] if isinstance(kind, type) else [kind]
    own = next((maker for maker in makers if isinstance(maker, types.FunctionType)), None)
    if own is None:
        return False
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(own).parameters.values())


def _named(names: collections.abc.Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "")


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
