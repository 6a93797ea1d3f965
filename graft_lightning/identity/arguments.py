"""Which attributes of a user's class are settings, and which are state; by the class's text.

``self._s = scale`` in a constructor is a setting, whatever it is called. What another method than a setter writes to is
state: a counter, or a network that is loaded late.
"""

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from graft_lightning.identity.definitions import definition
from graft_lightning.identity.source import class_text, is_users
from graft_lightning.identity.statements import CHANGES

GATHERED = {"list", "tuple", "dict", "set", "frozenset", "sorted"}
"""Functions that give back what they are given, in another container."""

CONSTRUCTORS = {"__init__", "__new__", "__post_init__", "__setattr__", "__setstate__"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Kept(NamedTuple):
    """What an attribute holds of the constructor's arguments.

    Attributes:
        names: of the arguments that it was made of.
        whole: whether it is one of them, or some of them in a container, and not what was computed of them.
    """

    names: frozenset[str]
    whole: bool


def kept_arguments(kind: type) -> dict[str, Kept]:
    """Attributes in which a class keeps arguments of its constructors, its bases' too; none of others' code."""
    found: dict[str, Kept] = {}
    for own, _ in _by_class(kind):
        found |= own
    return found


def state(kind: type) -> set[str]:
    """Attributes that methods of a class write to, its bases' too, constructors and setters aside."""
    return {name for _, own in _by_class(kind) for name in own}


def _by_class(kind: type) -> Iterator[tuple[dict[str, Kept], set[str]]]:
    """What `_of_text` finds of a user's class and of each of its bases, those of its bases first."""
    return (_of_text(*class_text(base)) for base in reversed(kind.__mro__) if is_users(base))


@lru_cache(maxsize=256)
def _of_text(text: str, name: str, line: int) -> tuple[dict[str, Kept], set[str]]:
    """Attributes that keep arguments of the constructor, and those that other methods write to; by the class's text."""
    kept: dict[str, Kept] = {}
    written: set[str] = set()
    node = definition(text, name, line)
    for method in node.body if isinstance(node, ast.ClassDef) else ():
        if not isinstance(method, Function) or not (method.args.posonlyargs or method.args.args):
            continue
        decorators = " ".join(map(ast.unparse, method.decorator_list))
        if method.name == "__init__":
            kept |= {_mangled(name, one): found for one, found in _kept(method).items()}
        if "cached_property" in decorators:  # leaves its value under its own name
            written.add(method.name)
        if not (method.name in CONSTRUCTORS or method.name.startswith("set") or ".setter" in decorators):
            written |= {_mangled(name, one) for one in _written(method)}
    return kept, written


def _kept(constructor: Function) -> dict[str, Kept]:
    parts = constructor.args
    me, *others = [part.arg for part in (*parts.posonlyargs, *parts.args)]
    names = [*others, *(part.arg for part in (*parts.kwonlyargs, parts.vararg, parts.kwarg) if part is not None)]
    held = {name: Kept(frozenset([name]), whole=True) for name in names}  # by local name, and by "self.name"
    for node in _in_order(constructor):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else (node.target,):
                for one, value in _pairs(target, node.value):
                    _assign(held, me, one, value)
    return {name.removeprefix("self."): kept for name, kept in held.items() if name.startswith("self.")}


def _assign(held: dict[str, Kept], me: str, target: ast.expr, value: ast.expr) -> None:
    name = _name(target, me)
    if name is None:
        return
    used = {found for part in ast.walk(value) if (found := _name(part, me)) in held}
    if used:
        held[name] = Kept(frozenset().union(*(held[one].names for one in used)), _is_whole(value, held, me))
    else:
        held.pop(name, None)


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a text from its beginning to its end; `ast.walk` goes level by level."""
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The single assignments of one statement."""
    if not isinstance(target, ast.Tuple | ast.List):
        yield target, value
    elif isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
        for one, part in zip(target.elts, value.elts, strict=True):
            yield from _pairs(one, part)
    else:
        for one in target.elts:
            yield one, value


def _name(node: ast.AST, me: str) -> str | None:
    """A local name, or an attribute of the object itself as "self.name"."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == me:
        return f"self.{node.attr}"
    return None


def _is_whole(value: ast.expr, held: dict[str, Kept], me: str) -> bool:
    if (name := _name(value, me)) is not None:
        return name not in held or held[name].whole
    if isinstance(value, ast.BoolOp):
        parts = value.values
    elif isinstance(value, ast.IfExp):
        parts = [value.body, value.orelse]
    elif isinstance(value, ast.List | ast.Tuple | ast.Set):
        parts = value.elts
    elif isinstance(value, ast.Dict):
        parts = value.values
    elif isinstance(value, ast.Starred):
        parts = [value.value]
    elif isinstance(value, ast.ListComp | ast.SetComp):
        parts = [value.elt]
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in GATHERED:
        parts = value.args
    else:
        return isinstance(value, ast.Constant)
    return all(_is_whole(part, held, me) for part in parts)


def _written(method: Function) -> set[str]:
    """Attributes of the object that a method assigns to, or whose contents it changes."""
    me = (*method.args.posonlyargs, *method.args.args)[0].arg
    targets: list[ast.AST] = []
    for node in ast.walk(method):
        if isinstance(node, ast.Assign | ast.Delete):
            targets += node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.For | ast.NamedExpr):
            targets.append(node.target)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _changes(node.func.attr):
            targets.append(node.func.value)
    names = {_name(part, me) for target in targets for part in ast.walk(target)}
    return {name.removeprefix("self.") for name in names if name is not None and name.startswith("self.")}


def _changes(method: str) -> bool:
    """Whether a method of that name changes what it is called on; those of PyTorch that do end with an underscore."""
    return method in CHANGES or (method.endswith("_") and not method.endswith("__"))


def _mangled(kind: str, name: str) -> str:
    """An attribute as the class of a qualified name has it."""
    private = name.startswith("__") and not name.endswith("__")
    return f"_{kind.rpartition('.')[2].lstrip('_')}{name}" if private else name
