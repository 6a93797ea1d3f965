"""Configurations with one mistake each, made from the types that the parser itself declares."""

import copy
import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from graft_lightning.cli.settings import class_at
from graft_lightning.ranges import Range, leaves, parameters

HUGE = 10**30


@dataclass(frozen=True)
class Mutation:
    """One mistake.

    Attributes:
        path: of the key, by which a refusal must call it.
        what: is wrong, in a word.
        make: the whole configuration, with the mistake.
        key: for the command line, where the mistake can be made there too; below a list it cannot.
        value: that it has there.
    """

    path: str
    what: str
    make: Callable[[], dict[str, Any]]
    key: str = ""
    value: Any = None

    @property
    def config(self) -> dict[str, Any]:
        """The whole configuration, with the mistake; of most mistakes nobody asks for it."""
        return self.make()


def mutations(config: dict[str, Any], kinds: dict[str, Any]) -> Iterator[Mutation]:
    """Every mistake in every number, text, flag, class and section of a configuration.

    Args:
        config: as read from YAML.
        kinds: classes whose arguments stand directly below a key.
    """
    for keys, path, annotation, value in settings(config, kinds):
        for what, wrong in mistakes(annotation, value):
            yield Mutation(path, what, partial(_with, config, keys, wrong), _written(keys), wrong)
        if isinstance(value, dict) and "class_path" in value:
            named = (*keys, "class_path")
            for what, wrong in (("class", "NoSuchClass"), ("module", "no_such_module.NoSuchClass")):
                yield Mutation(path, f"no such {what}", partial(_with, config, named, wrong), _written(keys), wrong)
            unknown = (*keys, "init_args", "no_such_argument")
            with_it = partial(_with, config, unknown, 1)
            yield Mutation(f"{path}.no_such_argument", "unknown key", with_it, _written(unknown), 1)
            yield from (
                Mutation(f"{path}.{name}", "left out", partial(_without, config, (*keys, "init_args"), name))
                for name in needed(_class(value["class_path"]), value.get("init_args") or {})
            )
        if keys and isinstance(value, dict) and len(keys) == 1:
            yield Mutation(path, "empty section", partial(_with, config, keys, 3))


def settings(config: dict[str, Any], kinds: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], str, Any, Any]]:
    """Keys, path, declared type and value of everything that is set."""
    for key, value in config.items():
        if key in kinds and isinstance(value, dict):
            yield (key,), key, Any, value
            yield from _arguments(kinds[key], value, (key,), key)
        elif key not in ("seed_everything", "vars"):
            yield from _inside(Any, value, (key,), key)


def _written(keys: tuple[Any, ...]) -> str:
    """A key as it is written on the command line, where a list has no places."""
    return "" if any(isinstance(key, int) for key in keys) else ".".join(key for key in keys if key != "init_args")


def needed(kind: Any, given: dict[str, Any]) -> Iterator[str]:
    """Arguments that are given and have no default."""
    known = parameters(kind) if kind is not None else {}
    yield from (name for name in given if known.get(name, (Any, None))[1] is inspect.Parameter.empty)


def _inside(
    annotation: Any, value: Any, keys: tuple[Any, ...], path: str
) -> Iterator[tuple[tuple[Any, ...], str, Any, Any]]:
    yield keys, path, annotation, value
    if isinstance(value, list):
        for place, item in enumerate(value):
            if isinstance(item, dict):
                yield from _inside(Any, item, (*keys, place), f"{path}[{place}]")
    elif isinstance(value, dict) and "class_path" in value:
        kind = _class(value["class_path"])
        yield from _arguments(kind, value.get("init_args") or {}, (*keys, "init_args"), path)


def _arguments(kind: Any, given: dict[str, Any], keys: tuple[Any, ...], path: str) -> Iterator[tuple[Any, ...]]:
    known = parameters(kind) if kind is not None else {}
    for name, value in given.items():
        annotation = known.get(name, (Any, None))[0]
        yield from _inside(annotation, value, (*keys, name), f"{path}.{name}")


def _class(path: str) -> Any:
    from tests.faults.names import BY_NAME

    return BY_NAME.get(path) or class_at(path)


def mistakes(annotation: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """Values that are wrong whatever the rest of the configuration is."""
    parts = list(leaves(annotation))
    optional = type(None) in parts or annotation is Any or annotation is inspect.Parameter.empty
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not optional:
        yield "empty", None
    if number:
        yield "text", "many"
        yield "list", [1, 2]
    if number and int in parts and float not in parts:
        yield "fraction", 1.5
        yield "infinite", float("inf")
    declared = next((part for part in parts if isinstance(part, Range)), None)
    if isinstance(value, float) and float in parts:
        yield "not a number", float("nan")
        if declared is None or not declared.infinite:
            yield "infinite", float("inf")
    if isinstance(value, int) and number and value >= 1 and int in parts:
        yield "negative", -1 - value
    if isinstance(value, int) and number and value >= 1 and declared is not None and declared.low >= 1:
        yield "zero", 0
    if isinstance(value, bool) and bool in parts:
        yield "no flag", "perhaps"
    choices = [typing.get_args(part) for part in parts if typing.get_origin(part) is typing.Literal]
    if isinstance(value, str) and choices:
        yield "no choice", "nonsense"


def _with(config: dict[str, Any], keys: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    place: Any = changed
    for key in keys[:-1]:
        if isinstance(place, dict) and place.get(key) is None:
            place[key] = {}
        place = place[key]
    place[keys[-1]] = value
    return changed


def _without(config: dict[str, Any], keys: tuple[Any, ...], name: str) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    place: Any = changed
    for key in keys:
        place = place[key]
    del place[name]
    return changed
