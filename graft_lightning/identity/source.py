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
import linecache
import numbers
import re
import symtable
import sys
import sysconfig
import tokenize
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from pathlib import Path, PurePath
from types import CodeType, FunctionType, ModuleType, NoneType
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

WRITERS = re.compile(r"save|write|dump|to_|log|print|mkdir|touch|unlink|remove")
"""How the names of functions begin that write a file."""
WRITING = re.compile(r"(?=.*[wax+])[rwaxbt+]{1,4}")
"""Modes in which a file is opened to be written to."""

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
        if node is None:  # made while the program ran: its methods are all there is
            self.texts[key] = "\n".join(_bytecode(method.__code__) for method in methods)
        else:
            self.texts[key] = _normalised(node)
            self._refer(node, scope)
        for method in methods:
            self._capture(method, f"{key}.{method.__name__}")

    def _add_function(self, value: Any) -> None:
        name, code = _qualname(value), value.__code__
        key = f"{value.__module__}.{name}"
        node = definition(_text(code.co_filename), name, code.co_firstlineno, code)
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
        for chain in _names(node):
            self._add_named(chain, scope)
            for alias, module, name in imported:
                if alias == chain[0]:
                    self._add_named((*name, *chain[1:]), vars(module))
        folders = (Path(), Path(scope.get("__file__") or "").parent)
        for text in _file_names(node):
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
        elif _is_constant(value) and name not in _rebound(_text(file)):
            self.values[key] = value
        elif key not in self.texts:
            self._add_made(key, name, scope)

    def _add_made(self, key: str, name: str, scope: Mapping[str, Any]) -> None:
        """Adds whatever makes a value of a module, which is no function, class or constant."""
        body = _module(_text(scope.get("__file__"))).body
        # a definition of that name is one that a decorator made something else of
        statements = [node for node in body if name in _filled(node) or getattr(node, "name", None) == name]
        self.texts[key] = "\n".join(_normalised(node) for node in statements)
        for node in statements:
            self._refer(node, scope)
        for node in body:
            if isinstance(node, Definition) and not isinstance(node, ast.Lambda) and name in _filled_by_calls(node):
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
    definitions = _all_definitions(_text(code.co_filename))
    found = [(qualified, node) for qualified, node in definitions if qualified.rpartition(".")[2] == code.co_name]
    return min(found, key=lambda pair: abs(_first_line(pair[1]) - code.co_firstlineno), default=(name, None))[0]


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


def class_text(value: type) -> tuple[str, str, int]:
    """The text that a class stands in, its qualified name, and the line of its first method."""
    first = min((method.__code__.co_firstlineno for method in _methods(value)), default=0)
    return _text(_file(value)), value.__qualname__, first


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


def definition(text: str, name: str, line: int, code: CodeType | None = None) -> Definition | None:
    """The definition of a qualified name; of several the one that begins at a line, or next to it."""
    name = COMPREHENSION.sub("", name)
    found = [node for qualified, node in _all_definitions(text) if qualified == name]
    if name.endswith("<lambda>"):
        lambdas = [
            node for node in found if isinstance(node, ast.Lambda) and node.lineno <= line <= (node.end_lineno or line)
        ]
        if len(lambdas) > 1 and code is not None:
            lambdas = [node for node in lambdas if _compiles_to(node, text, code)] or lambdas
        return min(lambdas, key=lambda node: len(ast.unparse(node)), default=None)
    return min(found, key=lambda node: abs(_first_line(node) - line), default=None)


@lru_cache(maxsize=32)
def _all_definitions(text: str) -> list[tuple[str, Definition]]:
    return list(_definitions(_module(text), ""))


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
    """Names of a module that are used, with the attributes that are asked of them: ``helpers.scale`` is one.

    A variable of a function is none of them, whatever it is called: a notebook has a ``samples`` of its own.
    """
    used = _global_names(ast.unparse(node))
    for found in ast.walk(node):
        chain: list[str] = []
        while isinstance(found, ast.Attribute):
            chain.insert(0, found.attr)
            found = found.value
        if isinstance(found, ast.Name) and found.id in used:
            yield (found.id, *chain)


@lru_cache(maxsize=256)
def _global_names(text: str) -> frozenset[str]:
    tables = [symtable.symtable(text, "text", "exec")]
    found: set[str] = set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        top = table.get_type() == "module"
        # what is imported inside a function is found by its import
        found |= {s.get_name() for s in table.get_symbols() if top or s.is_global() or s.is_imported()}
    return frozenset(found)


def _imports(
    node: ast.AST, scope: Mapping[str, Any], wanted: str | None = None
) -> Iterator[tuple[str, ModuleType, tuple[str, ...]]]:
    """What import statements of a text bind: the name, the user's module, and what of it that is.

    Args:
        node: the text.
        scope: of its module.
        wanted: the name that is looked for, among all that ``import *`` binds.
    """
    for found in ast.walk(node):
        if isinstance(found, ast.Import):
            for alias in found.names:
                module = _users_module(alias.name)
                if module is not None:
                    top = sys.modules[alias.name.partition(".")[0]]
                    yield (alias.asname, module, ()) if alias.asname else (top.__name__, top, ())
        elif isinstance(found, ast.ImportFrom):
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


def _file_names(node: ast.AST) -> set[str]:
    """Texts that may be names of files, but for those that are given to what writes."""
    calls = [found for found in ast.walk(node) if isinstance(found, ast.Call) and _writes(found)]
    written = {id(part) for call in calls for part in ast.walk(call)}
    return {
        found.value
        for found in ast.walk(node)
        if isinstance(found, ast.Constant) and isinstance(found.value, str) and id(found) not in written
    }


def _writes(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name != "open":
        return bool(WRITERS.match(name))
    given = (*call.args, *(word.value for word in call.keywords))
    modes = [part.value for part in given if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return any(WRITING.fullmatch(mode) for mode in modes)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero in it
        return False


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
    node = definition(_text(code.co_filename), _qualname(function), code.co_firstlineno, code)
    return set() if node is None else _filled(node, inside=True)


def _filled_by_calls(node: ast.AST) -> set[str]:
    """Names of a module that a definition assigns to, or whose contents it changes, once it is called."""
    parts = list(ast.walk(node))
    own = {part.arg for part in parts if isinstance(part, ast.arg)}
    own |= {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    declared = {name for part in parts if isinstance(part, ast.Global) for name in part.names}
    return _filled(node, inside=True) - (own - declared)


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
