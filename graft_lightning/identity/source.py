"""The source text that a user's class or function consists of.

Whose code it is follows from where its file lies: the standard library, installed packages and this package are not the
user's, everything else is (a script, a notebook, a package installed in editable mode). An update of a library is no
other identity: it would throw away every pool.

A user's class is its own text, that of its bases, and of everything of the user's that these refer to by name:
functions, classes, constants and settings of modules, also through a module's name or an import inside a function.
Comments, docstrings and line breaks do not count, nor does what is only reached at run time (`getattr` by a text, a
registry, a method that is replaced). Lists, dicts and sets that a function has captured count by what they hold, unless
the function writes to them: they are its cache then. Those of a module count by the statements that fill them.
"""

import ast
import importlib
import importlib.util
import inspect
import linecache
import numbers
import re
import sys
import sysconfig
import tokenize
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from pathlib import Path, PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor

PACKAGE = Path(__file__).parents[1]
INSTALLED = {"site-packages", "dist-packages"}
CONSTANTS = (numbers.Number, str, bytes, Enum, PurePath, Tensor, np.ndarray, type(None))
"""Values of a module that count as they are; of others (caches, objects) the statement that assigns them."""

MUTABLE = (list, dict, set, bytearray, deque)

COMPREHENSION = re.compile(r"<(genexpr|listcomp|setcomp|dictcomp)>\.<locals>\.")
"""In the qualified name of a function that is made in one."""

LISTS = {"append", "appendleft", "clear", "extend", "insert", "pop", "popleft", "remove", "reverse", "sort"}
CHANGES = {*LISTS, "add", "discard", "popitem", "setdefault", "update"}
"""Methods that change what a list, a dict or a set holds."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda


@dataclass
class Sources:
    """What a user's code consists of.

    Attributes:
        texts: source by dotted name, without comments and docstrings.
        values: constants, defaults and what closures hold, by dotted name.
    """

    texts: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def add(self, value: Any) -> None:
        """Adds a function or class and all that it refers to; nothing where it is not the user's."""
        if isinstance(value, type):
            for base in value.__mro__:
                if is_users(base):
                    self._add_class(base)
        elif isinstance(value := _unwrapped(value), FunctionType) and is_users(value):
            self._add_function(value)

    def _add_class(self, value: type) -> None:
        key = f"{value.__module__}.{value.__qualname__}"
        if key in self.texts:
            return
        methods = _methods(value)
        node = _definition(
            _text(_file(value)),
            value.__qualname__,
            min((method.__code__.co_firstlineno for method in methods), default=0),
        )
        scope = _scope(value, methods)
        if node is None:  # made while the program ran: its methods are all there is
            self.texts[key] = "\n".join(_bytecode(method.__code__) for method in methods)
        else:
            self.texts[key] = _normalised(node)
            self._refer(node, scope)
        for method in methods:
            self._capture(method, f"{key}.{method.__name__}")

    def _add_function(self, value: Any) -> None:
        key = f"{value.__module__}.{value.__qualname__}"
        code = value.__code__
        node = _definition(_text(code.co_filename), value.__qualname__, code.co_firstlineno, code)
        text = _bytecode(code) if node is None else _normalised(node)
        if self.texts.get(key) == text:
            return
        self.texts[key if key not in self.texts else f"{key}#{len(self.texts)}"] = text
        if node is not None:
            self._refer(node, value.__globals__)
        self._capture(value, key)

    def _capture(self, function: Any, key: str) -> None:
        """What a function holds beside its text: defaults, which may be any value, and variables around it."""
        held: dict[str, Any] = dict(enumerate(function.__defaults__ or ()))  # type: ignore[arg-type]
        held |= function.__kwdefaults__ or {}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name != "__class__" and cell.cell_contents is not function:
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
        for chain in _names(node):
            self._add_named(chain, scope)
        for module, name in _imports(node):
            if (found := _users_module(module)) is not None:
                self._add_named((name,) if name else (), vars(found))

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
        elif _is_constant(value) and name not in _rebound(_text(file)):
            self.values[key] = value
        elif key not in self.texts:
            statements = [node for node in _module(_text(file)).body if name in _filled(node)]
            self.texts[key] = "\n".join(_normalised(node) for node in statements)
            for node in statements:
                self._refer(node, scope)


def is_users(value: Any) -> bool:
    """Whether a function or class was written by the user."""
    value = _unwrapped(value)
    return not _is_library(_file(value), getattr(value, "__module__", None))


def _unwrapped(value: Any) -> Any:
    """What a decorator such as ``functools.lru_cache`` was put on."""
    return value if isinstance(value, type) or not callable(value) else inspect.unwrap(value)


def _is_library(file: str | None, module: str | None) -> bool:
    if (module or "builtins").partition(".")[0] in {*sys.stdlib_module_names, *sys.builtin_module_names}:
        return True
    if not file:
        return False
    path = Path(file).absolute()
    standard = (sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib"))
    return (
        bool(INSTALLED & set(path.parts))
        or path.is_relative_to(PACKAGE)
        or any(path.is_relative_to(folder) for folder in standard)
    )


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


def _scope(value: type, methods: Iterable[Any]) -> Mapping[str, Any]:
    """The module of a class, also when another module has taken its name since."""
    return next((method.__globals__ for method in methods), None) or vars(
        sys.modules.get(value.__module__, ModuleType("none"))
    )


def _text(file: str | None) -> str:
    """The text of a file or of a notebook's cell, read anew: modules are edited and loaded again. Empty if absent."""
    try:
        with tokenize.open(file or "") as stream:
            return stream.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return "".join(linecache.getlines(file)) if file else ""


@lru_cache(maxsize=32)
def _module(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError:  # being edited
        return ast.Module([], [])


def _definition(text: str, name: str, line: int, code: CodeType | None = None) -> Definition | None:
    """The definition of a qualified name; of several the one that begins at a line, or next to it."""
    name = COMPREHENSION.sub("", name)
    found = [node for qualified, node in _definitions(_module(text), "") if qualified == name]
    if name.endswith("<lambda>"):
        lambdas = [
            node for node in found if isinstance(node, ast.Lambda) and node.lineno <= line <= (node.end_lineno or line)
        ]
        if len(lambdas) > 1 and code is not None:
            lambdas = [node for node in lambdas if _compiles_to(node, text, code)] or lambdas
        return min(lambdas, key=lambda node: len(ast.unparse(node)), default=None)
    return min(found, key=lambda node: abs(_first_line(node) - line), default=None)


def _definitions(node: ast.AST, above: str) -> Iterator[tuple[str, Definition]]:
    for child in ast.iter_child_nodes(node):
        inside = above
        if isinstance(child, Definition):
            name = f"{above}{'<lambda>' if isinstance(child, ast.Lambda) else child.name}"
            yield name, child
            inside = f"{name}." if isinstance(child, ast.ClassDef) else f"{name}.<locals>."
        yield from _definitions(child, inside)


def _first_line(node: Definition) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _compiles_to(node: ast.Lambda, text: str, code: CodeType) -> bool:
    """Whether a lambda of a text is the one that became some code: one line may hold several.

    The text is compiled with that lambda alone moved to a line of its own, below all others: columns of code exist from
    Python 3.11 on only, and a compiled lambda refers to what is around it.
    """
    apart = len(text.splitlines()) + 2
    tree = ast.parse(text)
    for found in ast.walk(tree):
        if isinstance(found, ast.Lambda) and _place(found) == _place(node):
            ast.increment_lineno(found, apart - found.lineno)
    try:
        whole = compile(tree, "text", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    moved = [inner for inner in _codes(whole) if inner.co_name == "<lambda>" and inner.co_firstlineno == apart]
    wanted = (_bytecode(code), code.co_varnames, code.co_freevars)
    return any((_bytecode(inner), inner.co_varnames, inner.co_freevars) == wanted for inner in moved)


def _place(node: ast.expr) -> tuple[int | None, ...]:
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code and all that it holds."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


class _WithoutDocstrings(ast.NodeTransformer):
    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                node.body = node.body[1:] or [ast.Pass()]
        return node


def _normalised(node: ast.AST) -> str:
    # parsed again, for the tree is shared and a transformer changes it
    return ast.unparse(_WithoutDocstrings().visit(ast.parse(ast.unparse(node))))


def _bytecode(code: CodeType) -> str:
    """What stands for code without a text."""
    constants = [_bytecode(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_code.hex(), constants, code.co_names))


def _names(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Names that are used, with the attributes that are asked of them: ``helpers.scale`` is one."""
    for found in ast.walk(node):
        chain: list[str] = []
        while isinstance(found, ast.Attribute):
            chain.insert(0, found.attr)
            found = found.value
        if isinstance(found, ast.Name):
            yield (found.id, *chain)


def _imports(node: ast.AST) -> Iterator[tuple[str, str]]:
    for found in ast.walk(node):
        if isinstance(found, ast.ImportFrom) and not found.level and found.module:
            yield from ((found.module, alias.name) for alias in found.names)


def _users_module(name: str) -> ModuleType | None:
    try:
        spec = importlib.util.find_spec(name)
        users = spec is not None and spec.origin is not None and not _is_library(spec.origin, name)
        return importlib.import_module(name) if users else None
    except (ImportError, ValueError):
        return None  # says so when it is called


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(_is_constant(item) for item in value)
    return isinstance(value, CONSTANTS)


@lru_cache(maxsize=32)
def _rebound(text: str) -> frozenset[str]:
    """Names that functions of a module assign to: state, such as a counter or a network that is loaded late."""
    return frozenset(n for node in ast.walk(_module(text)) if isinstance(node, ast.Global) for n in node.names)


def _written(function: Any) -> set[str]:
    """Names of which a function changes what they hold, by its text; none where there is none."""
    code = function.__code__
    node = _definition(_text(code.co_filename), function.__qualname__, code.co_firstlineno, code)
    return set() if node is None else _filled(node, inside=True)


def _filled(node: ast.AST, inside: bool = False) -> set[str]:
    """Names that a statement assigns to, or whose contents it changes; what it only defines does so later."""
    if isinstance(node, Definition | ast.Import | ast.ImportFrom) and not inside:
        return set()
    found: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Assign | ast.Delete):
            found |= {name for target in part.targets for name in _bases(target)}
        elif isinstance(part, ast.AnnAssign | ast.AugAssign | ast.For | ast.NamedExpr):
            found |= set(_bases(part.target))
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in CHANGES:
            found |= set(_bases(part.func.value))
    return found


def _bases(target: ast.AST) -> Iterator[str]:
    """The names at the bottom of a target: x of ``x``, ``x[i]``, ``x.y``, ``(x, z)``."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Attribute | ast.Subscript | ast.Starred):
        yield from _bases(target.value)
    elif isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _bases(element)
