"""Definitions in the text of a module: which one an object came from, and how its text counts."""

import ast
import linecache
import re
import tokenize
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any

COMPREHENSION = re.compile(r"<(genexpr|listcomp|setcomp|dictcomp)>\.<locals>\.")
"""In the qualified name of a function that is made in one."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda


once = lru_cache(maxsize=4096)
"""What is asked of a node again and again: trees are shared, and never changed."""


def text_of(file: str | None) -> str:
    """The text of a file or of a notebook's cell, read anew: modules are edited and loaded again. Empty if absent."""
    try:
        with tokenize.open(file or "") as stream:
            return stream.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return "".join(linecache.getlines(file)) if file else ""


@lru_cache(maxsize=32)
def module_of(text: str) -> ast.Module:
    """The syntax of a text; empty while that is no Python."""
    try:
        return ast.parse(text)
    except SyntaxError:  # being edited
        return ast.Module([], [])


def definition(text: str, name: str, line: int, code: CodeType | None = None) -> Definition | None:
    """The definition of a qualified name; of several the one that begins at a line, or next to it."""
    name = COMPREHENSION.sub("", name)
    found = [node for qualified, node in all_definitions(text) if qualified == name]
    if name.endswith("<lambda>"):
        lambdas = [
            node for node in found if isinstance(node, ast.Lambda) and node.lineno <= line <= (node.end_lineno or line)
        ]
        if len(lambdas) > 1 and code is not None:
            lambdas = [node for node in lambdas if _compiles_to(node, text, code)] or lambdas
        return min(lambdas, key=lambda node: len(ast.unparse(node)), default=None)
    return min(found, key=lambda node: abs(first_line(node) - line), default=None)


@lru_cache(maxsize=32)
def all_definitions(text: str) -> list[tuple[str, Definition]]:
    """The functions, classes and lambdas of a text, by qualified names."""
    return list(_definitions(module_of(text), ""))


def _definitions(node: ast.AST, above: str) -> Iterator[tuple[str, Definition]]:
    for child in ast.iter_child_nodes(node):
        inside = above
        if isinstance(child, Definition):
            name = f"{above}{'<lambda>' if isinstance(child, ast.Lambda) else child.name}"
            yield name, child
            inside = f"{name}." if isinstance(child, ast.ClassDef) else f"{name}.<locals>."
        yield from _definitions(child, inside)


def first_line(node: Definition) -> int:
    """Where a definition begins, decorators included."""
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
    wanted = (bytecode(code), code.co_varnames, code.co_freevars)
    return any((bytecode(inner), inner.co_varnames, inner.co_freevars) == wanted for inner in moved)


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


@once
def normalised(node: ast.AST) -> str:
    """Its text without comments, docstrings and line breaks."""
    # parsed again, for the tree is shared and a transformer changes it
    return ast.unparse(_WithoutDocstrings().visit(ast.parse(ast.unparse(node))))


def without(node: Definition, names: frozenset[str]) -> Definition:
    """A class without what its body binds to some names."""
    copy = ast.parse(ast.unparse(node)).body[0]  # for the tree is shared
    assert isinstance(copy, ast.ClassDef)
    copy.body = [part for part in copy.body if not _bound(part) & names] or [ast.Pass()]
    return copy


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def bytecode(code: CodeType) -> str:
    """What stands for code without a text."""
    return repr((code.co_code.hex(), [_constant(value) for value in code.co_consts], code.co_names))


def _constant(value: Any) -> str:
    """A set's elements come in another order in every process."""
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(_constant, value))})"
    return bytecode(value) if isinstance(value, CodeType) else repr(value)
