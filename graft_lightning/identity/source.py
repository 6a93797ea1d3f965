"""The source text that a user's class or function consists of.

Whose code it is follows from where its file lies: the standard library, installed packages and this package are not the
user's, everything else is (a script, a notebook, a package installed in editable mode). An update of a library is no
other identity: it would throw away every pool.

A user's class is its own text, that of its bases, and of everything of the user's that these refer to by name:
functions, their decorators, classes, constants and settings of modules, also through a module's name or an import,
wherever that stands; and files whose names stand in it, but for those that it writes. Comments, docstrings and line
breaks do not count, nor does what is only reached at run time (`getattr` by a text, a registry, a method that is
replaced). Lists, dicts and sets that a function has captured count by what they hold, unless the function writes to
them: they are its cache then. Those of a module count by the statements and functions that fill them.
"""

import ast
import importlib
import importlib.util
import inspect
import numbers
import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path, PurePath
from types import FunctionType, ModuleType, NoneType
from typing import Any

import numpy as np
from torch import Tensor

from graft_lightning.identity.definitions import (
    Definition,
    all_definitions,
    bytecode,
    definition,
    first_line,
    module_of,
    normalised,
    text_of,
    without,
)
from graft_lightning.identity.statements import (
    file_names,
    filled,
    filled_by_calls,
    import_statements,
    names_in,
    rebound,
)

PACKAGE = Path(__file__).parents[1]
INSTALLED = {"site-packages", "dist-packages"}
CONSTANTS = (numbers.Number, str, bytes, Enum, PurePath, Tensor, np.ndarray, type(None))
"""Values of a module that count as they are; of others (caches, objects) the statement that assigns them."""

MUTABLE = (list, dict, set, bytearray, deque)


@dataclass
class Sources:
    """What a user's code consists of.

    Attributes:
        texts: source by dotted name, without comments and docstrings.
        values: constants, defaults and what closures hold, by dotted name.
        of: a class of which, and of whose bases, a part decides nothing.
        beside: the names in its body of that part.
        by_text: constants and defaults count by the statements that they stand in, and not by what paths point to, but
            for files beside the code.
    """

    texts: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    of: type = NoneType
    beside: frozenset[str] = frozenset()
    by_text: bool = False

    def add(self, value: Any) -> None:
        """Adds a function or class and all that it refers to; nothing where it is not the user's."""
        if isinstance(value, type):
            for base in value.__mro__:
                if is_users(base):
                    self._add_class(base)
        else:
            for layer in _layers(value):
                if not _is_library(_file(layer), layer.__module__):
                    self._add_function(layer)

    def _add_class(self, value: type) -> None:
        key = f"{value.__module__}.{value.__qualname__}"
        if key in self.texts:
            return
        methods = _methods(value)
        node, scope = definition(*class_text(value)), _scope(value, methods)
        if issubclass(self.of, value):
            methods = [method for method in methods if method.__name__ not in self.beside]
            node = node and without(node, self.beside)
        if node is None:  # made while the program ran: its methods are all there is
            self.texts[key] = "\n".join(bytecode(method.__code__) for method in methods)
        else:
            self.texts[key] = normalised(node)
            self._refer(node, scope)
        for method in methods:
            self._capture(method, f"{key}.{method.__name__}")

    def _add_function(self, value: Any) -> None:
        name, code = _qualname(value), value.__code__
        key = f"{value.__module__}.{name}"
        node = definition(text_of(code.co_filename), name, code.co_firstlineno, code)
        text = bytecode(code) if node is None else normalised(node)
        if self.texts.get(key) == text:
            return
        self.texts[key if key not in self.texts else f"{key}#{len(self.texts)}"] = text
        if node is not None:
            self._refer(node, value.__globals__)
        self._capture(value, key)

    def _capture(self, function: Any, key: str) -> None:
        """What a function holds beside its text: defaults, which may be any value, and variables around it."""
        held: dict[str, Any] = {}
        if not self.by_text:
            held |= dict(enumerate(function.__defaults__ or ()))  # type: ignore[arg-type]
            held |= function.__kwdefaults__ or {}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            inner = (function, getattr(function, "__wrapped__", function))  # which have a text of their own
            if name != "__class__" and all(cell.cell_contents is not one for one in inner):
                held[name] = cell.cell_contents
        written = _written(function)
        names = function.__code__.co_varnames[: function.__code__.co_argcount][
            -len(function.__defaults__ or ()) or None :
        ]
        for name, value in held.items():
            called = names[name] if isinstance(name, int) else name
            if not (isinstance(value, MUTABLE) and called in written):
                self.values[f"{key}.{name}"] = value

    def _refer(self, node: ast.AST, scope: Mapping[str, Any]) -> None:
        imported = list(_imports(node, scope))
        for chain in names_in(node):
            self._add_named(chain, scope)
            for alias, module, name in imported:
                if alias == chain[0]:
                    self._add_named((*name, *chain[1:]), vars(module))
        beside = Path(scope.get("__file__") or "").parent
        folders = (beside,) if self.by_text else (Path(), beside)
        for text in file_names(node):
            if (file := next((found for folder in folders if _is_file(found := folder / text)), None)) is not None:
                self.values[f"file {text}"] = file

    def _add_named(self, chain: tuple[str, ...], scope: Mapping[str, Any]) -> None:
        """Adds what a name such as ``helpers.scale`` stands for in a module."""
        for name in chain:
            if name not in scope:
                return
            value = scope[name]
            if not isinstance(value, ModuleType):
                break
            scope = vars(value)
        else:
            return
        key, file = f"{scope.get('__name__')}.{name}", scope.get("__file__")
        if isinstance(_unwrapped(value), type | FunctionType):
            self.add(value)
        elif _is_library(file, scope.get("__name__")) or name.startswith("__"):
            return
        elif _is_constant(value) and not self.by_text and name not in rebound(text_of(file)):
            self.values[key] = value
        elif key not in self.texts:
            self._add_made(key, name, scope)

    def _add_made(self, key: str, name: str, scope: Mapping[str, Any]) -> None:
        """Adds whatever makes a value of a module, which is no function, class or constant."""
        body = module_of(text_of(scope.get("__file__"))).body
        # a definition of that name is one that a decorator made something else of
        statements = [node for node in body if name in filled(node) or getattr(node, "name", None) == name]
        self.texts[key] = "\n".join(normalised(node) for node in statements)
        for node in statements:
            self._refer(node, scope)
        for node in body:
            if isinstance(node, Definition) and not isinstance(node, ast.Lambda) and name in filled_by_calls(node):
                self._add_named((node.name,), scope)
            for alias, module, chain in _imports(node, scope, name):
                if alias == name:
                    self._add_named(chain, vars(module))


def is_users(value: Any) -> bool:
    """Whether a function or class was written by the user."""
    value = _unwrapped(value)
    return not _is_library(_file(value), getattr(value, "__module__", None))


def _unwrapped(value: Any) -> Any:
    """What a decorator such as ``functools.lru_cache`` was put on."""
    return value if isinstance(value, type) or not callable(value) else inspect.unwrap(value)


def _layers(value: Any) -> Iterator[Any]:
    """The functions that a decorated one consists of, the outermost first."""
    seen: set[int] = set()
    while id(value) not in seen and not isinstance(value, type | NoneType):
        seen.add(id(value))
        if isinstance(value, FunctionType):
            yield value
        value = getattr(value, "__wrapped__", None)


def _qualname(function: Any) -> str:
    """The name under which a function stands in its text; `functools.wraps` gives it that of another one."""
    name: str = function.__qualname__
    if not hasattr(function, "__wrapped__"):
        return name
    code = function.__code__
    definitions = all_definitions(text_of(code.co_filename))
    found = [(qualified, node) for qualified, node in definitions if qualified.rpartition(".")[2] == code.co_name]
    return min(found, key=lambda pair: abs(first_line(pair[1]) - code.co_firstlineno), default=(name, None))[0]


def _is_library(file: str | None, module: str | None) -> bool:
    if (module or "builtins").partition(".")[0] in {*sys.stdlib_module_names, *sys.builtin_module_names}:
        return True
    if not file:
        return False
    path = Path(file).absolute()
    return bool(INSTALLED & set(path.parts)) or any(path.is_relative_to(folder) for folder in _libraries())


@cache
def _libraries() -> list[Path]:
    """The folders of this package and of the standard library."""
    folders = sysconfig.get_paths()
    return [PACKAGE, Path(folders["stdlib"]), Path(folders["platstdlib"])]


def _file(value: Any) -> str | None:
    """The file of a class or function; of generated code that of its module, of a notebook's cell the cell's name."""
    interactive = value.__module__ == "__main__"
    module = None if interactive else getattr(sys.modules.get(value.__module__ or ""), "__file__", None)
    if isinstance(value, type):
        return module or next((method.__code__.co_filename for method in _methods(value)), None)
    name: str = value.__code__.co_filename
    return module if module and name.startswith("<") else name


def _methods(value: type) -> list[Any]:
    """The functions that stand in the text of a class."""
    found: list[Any] = []
    for item in vars(value).values():
        parts = (item.fget, item.fset) if isinstance(item, property) else (getattr(item, "__func__", item),)
        found += [_unwrapped(part) for part in parts if isinstance(_unwrapped(part), FunctionType)]
    inside = f"{value.__qualname__}."
    return [part for part in found if part.__module__ == value.__module__ and part.__qualname__.startswith(inside)]


def class_text(value: type) -> tuple[str, str, int]:
    """The text that a class stands in, its qualified name, and the line of its first method."""
    first = min((method.__code__.co_firstlineno for method in _methods(value)), default=0)
    return text_of(_file(value)), value.__qualname__, first


def _scope(value: type, methods: Iterable[Any]) -> Mapping[str, Any]:
    """The module of a class, also when another module has taken its name since."""
    return next((method.__globals__ for method in methods), None) or vars(
        sys.modules.get(value.__module__, ModuleType("none"))
    )


def _imports(
    node: ast.AST, scope: Mapping[str, Any], wanted: str | None = None
) -> Iterator[tuple[str, ModuleType, tuple[str, ...]]]:
    """What import statements of a text bind: the name, the user's module, and what of it that is.

    Args:
        node: the text.
        scope: of its module.
        wanted: the name that is looked for, among all that ``import *`` binds.
    """
    for found in import_statements(node):
        if isinstance(found, ast.Import):
            for alias in found.names:
                module = _users_module(alias.name)
                if module is not None:
                    top = sys.modules[alias.name.partition(".")[0]]
                    yield (alias.asname, module, ()) if alias.asname else (top.__name__, top, ())
        else:
            above = _absolute(found, scope)
            if above is None or (module := _users_module(above)) is None:
                continue
            for alias in found.names:
                name = wanted if alias.name == "*" else alias.name
                if name is None or (alias.name == "*" and name not in vars(module)):
                    continue
                if name not in vars(module) and (inner := _users_module(f"{above}.{name}")) is not None:
                    yield alias.asname or name, inner, ()
                else:
                    yield alias.asname or name, module, (name,)


def _absolute(found: ast.ImportFrom, scope: Mapping[str, Any]) -> str | None:
    """The module that something is imported from, by its full name."""
    if not found.level:
        return found.module
    try:
        return importlib.util.resolve_name("." * found.level + (found.module or ""), scope.get("__package__"))
    except ImportError:
        return None


def _users_module(name: str) -> ModuleType | None:
    try:
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None
        place = spec.origin or next(iter(spec.submodule_search_locations or ()), None)  # of a folder without __init__
        return None if place is None or _is_library(place, name) else importlib.import_module(name)
    except (ImportError, ValueError):
        return None  # says so when it is called


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero in it
        return False


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(_is_constant(item) for item in value)
    return isinstance(value, CONSTANTS)


def _written(function: Any) -> frozenset[str]:
    """Names of which a function changes what they hold, by its text; none where there is none."""
    code = function.__code__
    node = definition(text_of(code.co_filename), _qualname(function), code.co_firstlineno, code)
    return frozenset() if node is None else filled(node, inside=True)
