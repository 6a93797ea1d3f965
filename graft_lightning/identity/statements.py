"""What the text of a definition refers to, and what it changes."""

import ast
import re
import symtable
from collections.abc import Iterator
from functools import lru_cache

from graft_lightning.identity.definitions import Definition, module_of, once

LISTS = {"append", "appendleft", "clear", "extend", "insert", "pop", "popleft", "remove", "reverse", "sort"}
CHANGES = {*LISTS, "add", "discard", "popitem", "setdefault", "update"}
"""Methods that change what a list, a dict or a set holds."""

WRITERS = re.compile(r"save|write|dump|to_|log|print|mkdir|touch|unlink|remove")
"""How the names of functions begin that write a file."""
WRITING = re.compile(r"(?=.*[wax+])[rwaxbt+]{1,4}")
"""Modes in which a file is opened to be written to."""


@once
def names_in(node: ast.AST) -> tuple[tuple[str, ...], ...]:
    """Names of a module that are used, with the attributes that are asked of them: ``helpers.scale`` is one.

    A variable of a function is none of them, whatever it is called: a notebook has a ``samples`` of its own.
    """
    return tuple(_chains(node, _global_names(ast.unparse(node))))


def _chains(node: ast.AST, used: frozenset[str]) -> Iterator[tuple[str, ...]]:
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


@once
def file_names(node: ast.AST) -> frozenset[str]:
    """Texts that may be names of files, but for those that are given to what writes."""
    calls = [found for found in ast.walk(node) if isinstance(found, ast.Call) and _writes(found)]
    written = {id(part) for call in calls for part in ast.walk(call)}
    return frozenset(
        found.value
        for found in ast.walk(node)
        if isinstance(found, ast.Constant) and isinstance(found.value, str) and id(found) not in written
    )


def _writes(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name != "open":
        return bool(WRITERS.match(name))
    given = (*call.args, *(word.value for word in call.keywords))
    modes = [part.value for part in given if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return any(WRITING.fullmatch(mode) for mode in modes)


@lru_cache(maxsize=32)
def rebound(text: str) -> frozenset[str]:
    """Names that functions of a module assign to: state, such as a counter or a network that is loaded late."""
    return frozenset(n for node in ast.walk(module_of(text)) if isinstance(node, ast.Global) for n in node.names)


@once
def import_statements(node: ast.AST) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Those of a text, wherever they stand."""
    return tuple(found for found in ast.walk(node) if isinstance(found, ast.Import | ast.ImportFrom))


@once
def filled_by_calls(node: ast.AST) -> frozenset[str]:
    """Names of a module that a definition assigns to, or whose contents it changes, once it is called."""
    parts = list(ast.walk(node))
    own = {part.arg for part in parts if isinstance(part, ast.arg)}
    own |= {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    declared = {name for part in parts if isinstance(part, ast.Global) for name in part.names}
    return filled(node, inside=True) - (own - declared)


@once
def filled(node: ast.AST, inside: bool = False) -> frozenset[str]:
    """Names that a statement assigns to, or whose contents it changes; what it only defines does so later."""
    if isinstance(node, Definition | ast.Import | ast.ImportFrom) and not inside:
        return frozenset()
    found: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Assign | ast.Delete):
            found |= {name for target in part.targets for name in _bases(target)}
        elif isinstance(part, ast.AnnAssign | ast.AugAssign | ast.For | ast.NamedExpr):
            found |= set(_bases(part.target))
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in CHANGES:
            found |= set(_bases(part.func.value))
    return frozenset(found)


def _bases(target: ast.AST) -> Iterator[str]:
    """The names at the bottom of a target: x of ``x``, ``x[i]``, ``x.y``, ``(x, z)``."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Attribute | ast.Subscript | ast.Starred):
        yield from _bases(target.value)
    elif isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _bases(element)
