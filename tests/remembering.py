"""A parser of configurations that remembers: of keys, arguments and classes it asks the same thousands of times.

What is remembered is what the functions themselves have answered, so that commands mean the same in half the time.
Processes that tests start look everything up.
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Hashable
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import jsonargparse
from jsonargparse import Namespace, _actions, _common, _namespace, _subcommands, _typehints, _util

import graft_lightning

Actions = list[Any]


class Known:
    """What is known of the arguments of one parser, as long as they are the same.

    Args:
        actions: the arguments.
    """

    def __init__(self, actions: Actions) -> None:
        self.actions, self.as_they_were = actions, [*actions]
        self.parsing = _filter(actions)
        # whose own parsers may still be added to
        self.commands = any(isinstance(action, _subcommands.ActionSubCommands) for action in actions)
        self.found: dict[Any, Any] = {}
        self.branches: dict[str, bool] = {}


_known: dict[int, Known] = {}


def known(actions: Actions) -> Known:
    """What is known of arguments; nothing where one has come or gone."""
    found = _known.get(id(actions))
    if found is None or found.actions is not actions or found.as_they_were != actions:
        found = _known[id(actions)] = Known(actions)
    return found


_filter = _actions.filter_non_parsing_actions
_find = _subcommands.find_action_and_subcommand
_is_branch = _subcommands.is_branch_key
_path = _util.get_import_path
_parse = Namespace._parse_key
_copy = _namespace.recreate_branches
_adapt = _typehints.adapt_class_type


def filtered(actions: Any) -> Any:
    """The arguments that are parsed."""
    return known(actions).parsing if isinstance(actions, list) else _filter(actions)


def found(parser: Any, dest: str, exclude: Any = None) -> Any:
    """The argument of a key, and the command that it belongs to."""
    about = known(parser._actions)
    if about.commands:
        return _find(parser, dest, exclude)
    answers = about.found
    if (dest, exclude) not in answers:
        answers[dest, exclude] = _find(parser, dest, exclude)
    return answers[dest, exclude]


def is_branch(parser: Any, key: str) -> bool:
    """Whether arguments stand below a key."""
    about = known(parser._actions)
    if about.commands:
        return _is_branch(parser, key)
    answers = about.branches
    if key not in answers:
        answers[key] = _is_branch(parser, key)
    return answers[key]


_path_of_class = cache(_path)


def path(value: Any) -> str | None:
    """The path by which something is imported."""
    return _path_of_class(value) if isinstance(value, type) else _path(value)


@cache
def _parts(key: str) -> tuple[str, list[str], str] | None:
    """The last name of a key, those before it, and the key that they make; None of a key that is refused."""
    if " " in key or not all(key.split(".")):
        return None
    *names, leaf = [_namespace.add_clash_mark(name) for name in key.split(".")]
    return leaf, names, ".".join(names)


def parsed(self: Namespace, key: Any) -> tuple[str, Any, str]:
    """The last name of a key, what it stands in, and the key of that."""
    parts = _parts(key) if isinstance(key, str) else None
    if parts is None:
        return _parse(self, key)
    leaf, names, parent = parts
    at: Any = self
    for name in names:
        values = at if isinstance(at, dict) else vars(at)
        if name not in values:
            return leaf, None, parent
        at = values[name]
        if at is None:
            return _parse(self, key)
        if not isinstance(at, Namespace | dict):
            return leaf, None, parent
    return leaf, at, parent


def copied(data: Any, skip_keys: Any = None) -> Any:
    """The same settings, whose mappings and lists are others."""
    kind = type(data)
    if kind is Namespace:
        new = Namespace()
        vars(new).update(_copied_values(vars(data), skip_keys))
        return new
    if kind is dict:
        return _copied_values(data, skip_keys)
    return _copy(data, skip_keys)


def _copied_values(values: dict[str, Any], skip_keys: Any) -> dict[str, Any]:
    return {
        key: copied(value, skip_keys) if isinstance(value, Namespace | dict | list) else value
        for key, value in values.items()
        if skip_keys is None or key not in skip_keys
    }


class NotPlain(Exception):
    """Something whose meaning may be another the next time."""


NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_MAY_BE_READ = re.compile(r"[./](?!safetensors$)(?!.*\.safetensors$)")
LASTING = {"diffusers", "experiments", "graft_lightning", "lightning", "peft", "tests", "torch"}
LASTING |= {"torchmetrics", "transformers"}
"""Packages whose classes stay what they are; tests write modules of their own, several of one name."""


@cache
def shipped_names() -> frozenset[str]:
    """Names of the classes that the package defines."""
    files = Path(graft_lightning.__file__).parent.rglob("*.py")
    return frozenset(name for file in files for name in re.findall(r"^class (\w+)", file.read_text(), re.M))


FOLDER = re.compile(rf"{re.escape(os.path.realpath(tempfile.gettempdir()))}/[^/]+(/pytest-\d+(/popen-\w+)?/[^/]+)?")
"""A folder that a test has for itself: no two tests have the same."""


class Folders:
    """Names of tests' own folders in settings that differ in nothing else."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def without(self, text: str) -> str:
        """A text in which each folder has its number for a name."""
        return FOLDER.sub(lambda match: f"\0{self._number(match[0])}\0", text) if text.startswith("/") else text

    def _number(self, folder: str) -> int:
        if folder not in self.found:
            self.found.append(folder)
        return self.found.index(folder)

    def names_out_of(self, answer: Any) -> Any:
        """An answer with numbers for names.

        Raises:
            NotPlain: if it may hold a name elsewhere than in a text.
        """
        return _with_texts(answer, self.without)

    def names_into(self, answer: Any) -> Any:
        """An answer with the names of these folders."""
        return _with_texts(answer, lambda text: re.sub("\0(\\d+)\0", lambda match: self.found[int(match[1])], text))


def _with_texts(value: Any, changed: Callable[[str], str]) -> Any:
    kind = type(value)
    if kind is str:
        return changed(value)
    if isinstance(value, PurePath):
        return kind(changed(str(value)))
    if value is None or kind in (bool, int, float) or isinstance(value, type):
        return value
    if kind is Namespace:
        new = Namespace()
        vars(new).update(_with_texts(vars(value), changed))
        return new
    if kind is dict:
        return {name: _with_texts(one, changed) for name, one in value.items()}
    if kind in (list, tuple):
        return kind(_with_texts(one, changed) for one in value)
    raise NotPlain


def plain(value: Any, folders: Folders, key: str = "") -> Hashable:
    """What settings say, and in which order; classes that they name are themselves, whatever is called so.

    Raises:
        NotPlain: if they speak of files, of the environment, of what tests define, or have anything but plain values.
    """
    kind = type(value)
    if kind is str:
        if "$" in value or (_MAY_BE_READ.search(value) and os.path.isfile(value)):
            raise NotPlain
        if key == "class_path" and value in shipped_names():
            # which class it is depends on those that are there: another import may bring one more
            return value, len(sys.modules), next(reversed(sys.modules))
        if key == "class_path" or NAME.fullmatch(value):
            if value.partition(".")[0] not in LASTING or "." not in value:
                raise NotPlain
            return value, _util.import_object(value)
        return folders.without(value)
    if isinstance(value, PurePath):
        return kind, plain(str(value), folders)
    if value is None or kind in (bool, int, float):
        return kind, value
    if kind is Namespace or kind is dict:
        values = vars(value) if kind is Namespace else value
        return kind, *((name, plain(values[name], folders, name)) for name in values)
    if kind is list or kind is tuple:
        return kind, *(plain(one, folders) for one in value)
    raise NotPlain


CONTEXT = (
    _common.lenient_check,
    _common.load_value_mode,
    _common.nested_links,
    _common.parsing_defaults,
    _common.path_dump_preserve_relative,
    _common.validating_defaults,
    _typehints.allow_default_instance,
    _typehints.dump_kwargs,
    _typehints.sub_defaults,
)
_adapted: dict[Hashable, Any] = {}


def adapted(
    value: Any,
    serialize: bool,
    instantiate_classes: bool,
    sub_add_kwargs: dict[str, Any],
    prev_val: Any = None,
    partial_skip_args: Any = None,
    typehint: Any = None,
) -> Any:
    """Settings of a class, held against its arguments: of the same ones the library asks eight times in a command."""
    given = serialize, instantiate_classes, sub_add_kwargs, prev_val, partial_skip_args, typehint
    if instantiate_classes:
        return _adapt(value, *given)
    folders = Folders()
    try:
        key = (
            plain(value, folders),
            plain(prev_val, folders),
            serialize,
            typehint,
            type(_common.parent_parser.get()),
            *(_typehints.freeze(one) for one in (sub_add_kwargs, partial_skip_args, *(v.get() for v in CONTEXT))),
        )
        known = key in _adapted
    except (NotPlain, ImportError, AttributeError, TypeError):
        return _adapt(value, *given)
    before = prev_val.get("init_args") if isinstance(prev_val, Namespace) else None
    if known and _adapted[key] is None:
        return _adapt(value, *given)
    if not known:
        answer = _adapt(value, *given)
        try:
            _adapted[key] = _out(answer, folders), _out(before, folders)
        except NotPlain:
            _adapted[key] = None
        return answer
    answer, left = _adapted[key]
    if isinstance(before, Namespace):  # what another class does not know was taken out of it
        vars(before).clear()
        vars(before).update(vars(_into(left, folders)))
    return _into(answer, folders)


def _out(answer: Any, folders: Folders) -> Any:
    return folders.names_out_of(answer) if folders.found else copied(answer)


def _into(answer: Any, folders: Folders) -> Any:
    return folders.names_into(answer) if folders.found else copied(answer)


class Context:
    """Values of context variables for the time of a block, without a generator.

    Args:
        values: by the variables' names.
    """

    __slots__ = ("tokens", "values")

    def __init__(self, **values: Any) -> None:
        self.values = values

    def __enter__(self) -> None:
        variables = _common.parser_context_vars
        self.tokens = [(variables[name], variables[name].set(value)) for name, value in self.values.items()]

    def __exit__(self, *error: Any) -> None:
        for variable, token in self.tokens:
            variable.reset(token)


def with_memory() -> None:
    """Puts all of it in the place of what it asks."""
    for old, new in (
        (_filter, filtered),
        (_find, found),
        (_is_branch, is_branch),
        (_path, path),
        (_copy, copied),
        (_common.parser_context, Context),
        (_adapt, adapted),
    ):
        _put(old, new)
    Namespace._parse_key = parsed  # type: ignore[method-assign]


def _put(old: Callable[..., Any], new: Callable[..., Any]) -> None:
    """Wherever in the library a function is known."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == jsonargparse.__name__:
            for attribute, value in list(vars(module).items()):
                if value is old:
                    setattr(module, attribute, new)
