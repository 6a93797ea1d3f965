"""A reward from any function, named by its dotted path."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from graft_lightning.identity import describe, source_text
from graft_lightning.refusals import SettingsError
from graft_lightning.rejection.reward import Reward, as_numbers


class FunctionReward(Reward):
    """Calls ``function(samples, conditions, **arguments)``, which returns one number a sample.

    Args:
        function: dotted path of the function, ``package.module.function``; imported by the first call.
        arguments: further keyword arguments.
        groupwise: True if the function compares samples of one condition with each other.
        apart: True if its work is done elsewhere, as by a service that it asks: samples are then drawn and decoded in
            the meantime. Scores are the same.
    """

    def __init__(
        self, function: str, arguments: dict[str, Any] | None = None, groupwise: bool = False, apart: bool = False
    ) -> None:
        self.function = function
        self.arguments = dict(arguments or {})
        self.groupwise, self._apart = groupwise, apart
        self._function: Callable[..., Any] | None = None

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        found = self._resolved()(samples, conditions, **self.arguments)
        return as_numbers(found, self.name).float()

    @property
    def name(self) -> str:
        return self.function.rpartition(".")[2]

    def apart_for(self, count: int) -> bool:
        return self._apart

    def evidence(self) -> Any:
        """The function's source, or of a callable object all that it is: a changed function is another reward."""
        function = self._resolved()
        described = "" if (text := source_text(function)) else describe(function, evidence=True)
        return text if isinstance(described, str) else described

    def _resolved(self) -> Callable[..., Any]:
        if self._function is None:
            self._function = imported(self.function)
        return self._function


class CallableReward(Reward):
    """A function that is at hand, for scripts and notebooks; a configuration names one by its path (`FunctionReward`).

    Args:
        function: ``(samples, conditions) -> one number a sample``; its source is part of what a pool knows of it.
        name: of its column in pools; the function's own by default.
        groupwise: True if the function compares samples of one condition with each other.
        apart: True if its work is done elsewhere, see `FunctionReward`.
    """

    def __init__(
        self,
        function: Callable[[Any, Sequence[str]], Any],
        name: str | None = None,
        groupwise: bool = False,
        apart: bool = False,
    ) -> None:
        self.function, self.groupwise, self._apart = function, groupwise, apart
        self._name = name or getattr(function, "__name__", type(function).__name__).strip("<>")

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        return as_numbers(self.function(samples, conditions), self.name).float()

    @property
    def name(self) -> str:
        return self._name

    def apart_for(self, count: int) -> bool:
        return self._apart


class UnknownFunction(SettingsError, ImportError):
    """A dotted path at which there is no callable."""


def imported(path: str) -> Callable[..., Any]:
    """The callable at a dotted path.

    Raises:
        UnknownFunction: if there is no such module, or no such callable in it; says which.
    """
    module, _, name = path.rpartition(".")
    if not module:
        raise UnknownFunction(f"function: {path!r} names no module; write package.module.function")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise UnknownFunction(f"function: module {module!r} of {path!r} cannot be imported: {error}") from error
    if not callable(found):
        raise UnknownFunction(f"function: module {module!r} has no callable {name!r}")
    return found
