"""Configurations as they were written, in files and on the command line, before the parser has read them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from graft_lightning.refusals import SettingsError, first_line

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the compiled one takes a ninth of the time


MERGE = "tag:yaml.org,2002:merge"
"""Of the key ``<<``, by which a mapping takes over another one; of several all are taken over."""


class _Loader(_SafeLoader):
    """PyYAML's, which keeps the last of two equal keys; of this one they are a mistake."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        _require_keys_once(node, set())
        return node


def _require_keys_once(node: Any, known: set[int]) -> None:
    if id(node) in known or not isinstance(node, yaml.CollectionNode):
        return
    known.add(id(node))  # an alias stands for the node itself
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _require_keys_once(item, known)
        return
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value:
        same = key.tag, str(key.value)
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE and same in lines:
            problem = f"'{key.value}' stands there twice, first in line {lines[same]}"
            raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        lines[same] = key.start_mark.line + 1
        _require_keys_once(value, known)


def require_keys_once(text: str) -> None:
    """Refuses a YAML text that has a key twice in one place.

    Raises:
        yaml.YAMLError: if it has, or is none.
    """
    yaml.compose(text, Loader=_Loader)


def of_text(text: str) -> Any:
    """What a YAML text says.

    Raises:
        yaml.YAMLError: if it is none, or has a key twice in one place.
    """
    return yaml.load(text, Loader=_Loader)


def read_yaml(file: Path) -> Any:
    """What a YAML file says.

    Raises:
        SettingsError: if it is not in UTF-8, or no YAML; names the file and the line.
        OSError: if it cannot be read.
    """
    content = file.read_bytes()
    try:
        return of_text(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SettingsError(f"{file}, line {line}: the file is not in UTF-8; save it in that encoding") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        lines = content.count(b"\n", 0, len(content.rstrip()))  # the end of a file is not a line of its own
        where = f", line {min(mark.line, lines) + 1}" if mark else ""
        problem = getattr(error, "problem", None) or first_line(error)
        told = problem if isinstance(error, yaml.constructor.ConstructorError) else f"no YAML ({problem})"
        raise SettingsError(f"{file}{where}: {told}") from None


def layered(files: Sequence[Path]) -> dict[str, Any]:
    """The configuration that several files make, each over those before it, as ``fit --config A --config B`` has it.

    Raises:
        SettingsError: if one is absent, no YAML, or no configuration; names it.
    """
    found: dict[str, Any] = {}
    for file in files:
        if not file.is_file():
            raise SettingsError(f"{file}: there is no such file")
        layer = read_yaml(file)
        if not isinstance(layer, dict):
            raise SettingsError(f"{file}: it holds no configuration, but {type(layer).__name__}")
        found = merged(found, layer)
    return found


def overrides(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Keys and values that a command line sets, in its order; the value is None where there is none.

    Args:
        words: of the command line; files of configurations are passed over.
    """
    for place, word in enumerate(words):
        key, is_set, value = word.partition("=")
        if not key.startswith("--") or key == "--config":
            continue
        following = words[place + 1] if place + 1 < len(words) else None
        if is_set or following is None or following.startswith("--"):
            yield key[2:], value if is_set else None
        else:
            yield key[2:], following


def overridden(settings: Any, words: Sequence[str]) -> Any:
    """A configuration with what a command line sets; ``init_args`` are left out of keys, as they may be there."""
    settings = settings if isinstance(settings, dict) else {}
    for key, value in overrides(words):
        if value is not None:
            settings = put(settings, key.removesuffix("+").split("."), read_value(value), key.endswith("+"))
    return settings


def merged(first: Any, second: Any) -> Any:
    """Two configurations as one; the later wins, and another class begins without the arguments of the one before."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return second
    if "class_path" in second and second["class_path"] != first.get("class_path"):
        return second
    return {**first, **{key: merged(first[key], item) if key in first else item for key, item in second.items()}}


def put(settings: Any, keys: Sequence[str], value: Any, append: bool = False) -> Any:
    """A copy of settings with a value at a key.

    Args:
        settings: or a part of them.
        keys: of the place; below a list it is that of the last item, as the parser has it.
        value: to be there.
        append: to the list at that place.
    """
    if not keys:
        if append:
            return [*(settings if isinstance(settings, list) else []), value]
        same = isinstance(settings, Mapping) and isinstance(value, str) and settings.get("class_path") == value
        return settings if same else value
    if isinstance(settings, list) and settings and not keys[0].isdigit():
        return [*settings[:-1], put(settings[-1], keys, value, append)]
    if isinstance(settings, str):
        settings = {"class_path": settings}
    found = dict(settings) if isinstance(settings, Mapping) else {}
    if "class_path" in found and keys[0] not in ("class_path", "init_args", "dict_kwargs"):
        keys = ["init_args", *keys]
    if keys == ["class_path"] and found.get("class_path") != value:
        return {"class_path": value}
    found[keys[0]] = put(found.get(keys[0]), keys[1:], value, append)
    return found


def read_value(text: str) -> Any:
    """What a word of a command line stands for; numbers such as ``1e9`` are numbers."""
    try:
        found = of_text(text)
    except yaml.YAMLError:
        return text
    try:
        number = float(found) if isinstance(found, str) else math.nan
    except ValueError:
        return found
    return number if math.isfinite(number) else found
