"""Ranges of numbers, declared where an argument is: ``draws: Count = 32``. Imports nothing of ours.

The parser checks them for every class of a configuration, before anything is built. What is not declared follows from
the default of the argument: an integer must be at least 1 where its default is, or where it has none, and at least 0
where its default is 0; a number must be finite. A negative default, or `Whole`, allows every integer.
"""

import inspect
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``, both of them included unless they are ``open_``.

    Args:
        low: the least.
        high: the greatest.
        open_low: ``low`` itself is outside.
        open_high: ``high`` itself is outside.
        infinite: an infinite number is allowed.
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    infinite: bool = False

    def wrong(self, value: float) -> str | None:
        """What would be right, in words; None where the value is."""
        if isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and not self.infinite)):
            return "it must be a finite number" + (f", {self.words}" if self.words else "")
        low = value <= self.low if self.open_low else value < self.low
        high = value >= self.high if self.open_high else value > self.high
        return f"it must be {self.words}" if (low and self.low > -math.inf) or (high and self.high < math.inf) else None

    @property
    def words(self) -> str:
        """The range in words; nothing where it is unlimited."""
        if math.isinf(self.high):
            return "" if math.isinf(self.low) else f"{'above' if self.open_low else 'at least'} {self.low:g}"
        if math.isinf(self.low):
            return f"{'below' if self.open_high else 'at most'} {self.high:g}"
        return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


Count = Annotated[int, Range(1)]
"""1, 2, ..."""
Natural = Annotated[int, Range(0)]
"""0, 1, ..."""
Whole = Annotated[int, Range()]
"""Any integer: a seed."""
Positive = Annotated[float, Range(0, open_low=True)]
NonNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
"""0 and 1 are included."""
BelowOne = Annotated[float, Range(0, 1, open_high=True)]
"""0 is included, 1 is not."""
Unlimited = Annotated[float, Range(0, open_low=True, infinite=True)]
"""Above 0; infinity means no limit."""


def parameters(kind: Any) -> dict[str, tuple[Any, Any]]:
    """Type, with what is declared in it, and default of each argument of a class, those of its bases too.

    ``inspect.Parameter.empty`` stands for no default.
    """
    found: dict[str, tuple[Any, Any]] = {}
    bases = kind.__mro__ if isinstance(kind, type) else [kind]
    for base in reversed(bases):
        function = base.__dict__.get("__init__") if isinstance(base, type) else base
        if not isinstance(function, types.FunctionType):
            continue
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except (NameError, TypeError):  # of another's class, whose annotations are not all importable
            hints = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found[name] = hints.get(name, Any), parameter.default
    return found


Violation = tuple[str, Any, str]


def violations(annotation: Any, default: Any, value: Any, strict: bool = True, at: str = "") -> Iterator[Violation]:
    """What is wrong with a value: place within it (``[2]``), the number, what would be right.

    Args:
        annotation: the declared type.
        default: of the argument; it decides where the type declares no range.
        value: what is given.
        strict: apply the default rule to integers; without it numbers must only be finite.
        at: place of ``value`` itself.
    """
    if isinstance(value, bool):
        return
    if value is None:
        parts = set(leaves(annotation))
        if parts & {int, float, bool, str} and type(None) not in parts and default is not None:
            yield at, value, "it must not be empty; give a value, or leave the key out"
        return
    if isinstance(value, int | float):
        wrong = _range(annotation, default, value, strict, bool(at)).wrong(value)
        if wrong is not None:
            yield at, value, wrong
    elif isinstance(value, str):
        # Of what has a default, an empty text may be meant: no suffix, the empty prompt.
        if strict and not at and not value.strip() and default is inspect.Parameter.empty and str in leaves(annotation):
            yield at, repr(value), "it must not be empty"
    elif isinstance(value, Mapping) and "class_path" not in value:
        for key, item in value.items():
            yield from violations(element(annotation), None, item, strict, f"{at}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, Mapping):
        for place, item in enumerate(value):
            yield from violations(element(annotation), None, item, strict, f"{at}[{place}]")


def _range(annotation: Any, default: Any, value: float, strict: bool, inside: bool) -> Range:
    declared = [found for found in leaves(annotation) if isinstance(found, Range)]
    if declared:
        return declared[0]
    if isinstance(value, int) and strict and not inside and int in leaves(annotation):
        if default in (inspect.Parameter.empty, None) or isinstance(default, bool):
            return Range(1)
        if isinstance(default, int | float) and default >= 0:
            return Range(1 if default >= 1 else 0)
    return Range()


def leaves(annotation: Any) -> Iterator[Any]:
    """A type's parts: members of unions, and what is declared beside a type; not the elements of a list."""
    if typing.get_origin(annotation) is Annotated:
        base, *declared = typing.get_args(annotation)
        yield from (*leaves(base), *declared)
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from leaves(part)
    else:
        yield annotation


def element(annotation: Any) -> Any:
    """The type of the elements of a list or the values of a mapping."""
    for part in leaves(annotation):
        arguments = [found for found in typing.get_args(part) if found is not Ellipsis]
        if arguments:
            return arguments[-1]
    return Any
