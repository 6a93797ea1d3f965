"""Settings held against the ranges that their classes declare, all of them before anything is built."""

import dataclasses
import importlib
import inspect
import os
from collections.abc import Iterator, Mapping
from typing import Any

from graft_lightning.ranges import Range, leaves, parameters, violations
from graft_lightning.refusals import SettingsError, first_line

AT_LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "limit_predict_batches": 0,
    "limit_test_batches": 0,
    "limit_train_batches": 0,
    "limit_val_batches": 0,
    "log_every_n_steps": 1,
    "max_epochs": -1,
    "max_steps": -1,
    "min_epochs": 0,
    "min_steps": 0,
    "num_nodes": 1,
    "num_sanity_val_steps": -1,
    "overfit_batches": 0,
    "reload_dataloaders_every_n_epochs": 0,
}
"""Arguments of Lightning's Trainer, whose own checks come late, or not at all."""

NONE = "trainer.limit_val_batches=0 turns validation off"

OTHERS = ("torch.", "lightning.", "torchmetrics.")
"""Packages whose numbers must be finite, whatever else they accept."""
COUNTING = "torch.optim."
"""A package whose integers are steps and epochs: none is negative unless its default is."""


def refuse_out_of_range(settings: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Holds every number of a configuration against its range.

    Args:
        settings: parsed, by key; those of classes as ``class_path`` and ``init_args``.
        kinds: classes whose arguments stand directly below a key.

    Raises:
        SettingsError: names the key with its whole path, the value, and what would be right.
    """
    for key, value in settings.items():
        if not hasattr(value, "items"):
            if key in (*kinds, "trainer"):
                raise SettingsError(f"{key}={value}; it must be a section of settings, or be left out")
            continue
        if key == "trainer":
            found = _of_the_trainer(value)
        else:
            found = _of(kinds[key], value, key) if key in kinds else _within(Any, value, key)
        for path, number, right in found:
            raise SettingsError(f"{path}={number}; {right}")


def expand_home(settings: Any) -> Any:
    """A configuration, in place, with the home folder for the ``~`` that a text begins with; a shell does that too."""
    if isinstance(settings, str):
        return os.path.expanduser(settings) if settings.startswith("~/") else settings
    if isinstance(settings, list):
        settings[:] = [expand_home(item) for item in settings]
    elif hasattr(settings, "items"):
        own = settings if isinstance(settings, dict) else vars(settings)
        own.update({key: expand_home(item) for key, item in own.items()})
    return settings


def nested(settings: Any) -> Any:
    """A parsed configuration as dictionaries in dictionaries; those of the parser give dotted keys."""
    if isinstance(settings, list):
        return [nested(item) for item in settings]
    if hasattr(settings, "items"):
        own = settings if isinstance(settings, dict) else vars(settings)
        return {key: nested(item) for key, item in own.items()}
    return settings


def _of_the_trainer(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    for name, value in settings.items():
        if name == "val_check_interval" and isinstance(value, int | float) and value <= 0:
            yield f"trainer.{name}", value, f"it must be batches, at least 1, or a share above 0; {NONE}"
        if name in AT_LEAST and isinstance(value, int | float) and not isinstance(value, bool):
            wrong = Range(AT_LEAST[name]).wrong(value)
            if wrong is not None:
                yield f"trainer.{name}", value, wrong
        yield from _within(Any, value, f"trainer.{name}")


def _of(kind: Any, settings: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any, str]]:
    """Violations among the arguments of a class."""
    module = str(getattr(kind, "__module__", ""))
    ours, known = module.startswith("graft_lightning"), parameters(kind)
    for name, value in settings.items():
        annotation, default = known.get(name, (Any, inspect.Parameter.empty))
        declared = any(isinstance(part, Range) for part in leaves(annotation))
        if ours or declared or module.startswith(OTHERS):
            for at, number, right in violations(annotation, default, value, ours):
                yield f"{path}.{name}{at}", number, right
        if (
            module.startswith(COUNTING)
            and type(value) is int
            and value < 0
            and not (type(default) is int and default < 0)
        ):
            yield f"{path}.{name}", value, "it must be at least 0"
        yield from _within(annotation, value, f"{path}.{name}")


def _within(annotation: Any, value: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    """Violations in what is inside a value: a class with its arguments, a dataclass, a list or mapping of them."""
    if isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _within(annotation, item, f"{path}[{place}]")
        return
    if not hasattr(value, "items"):
        return
    if "class_path" in value:
        kind = class_at(value["class_path"])
        if kind is None:  # below an argument of any type, which the parser leaves as it is
            yield f"{path}.class_path", value["class_path"], "there is no such class, or it cannot be imported"
        yield from _of(kind, value.get("init_args") or {}, path)
        return
    of_dataclass = [part for part in leaves(annotation) if dataclasses.is_dataclass(part)]
    if of_dataclass:
        yield from _of(of_dataclass[0], value, path)
    else:
        for key, item in value.items():
            yield from _within(Any, item, f"{path}.{key}")


def class_at(path: str) -> Any:
    """What a dotted path names; None where there is nothing, or it cannot be imported."""
    module, _, name = str(path).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None


def why_not_at(path: str) -> str | None:
    """Why a dotted path names nothing: no such module, one that cannot be imported, no such name in it; else None."""
    module, _, name = str(path).rpartition(".")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            return f"there is no module {error.name!r}, neither installed nor in the working folder"
        return f"module {module!r} cannot be imported: {first_line(error)}"
    except (ImportError, ValueError) as error:
        return f"module {module!r} cannot be imported: {first_line(error)}"
    return None if hasattr(found, name) else f"module {module!r} has no {name!r}"


def path_of(key: str, value: str, settings: Any, path: str = "") -> str | None:
    """The whole path of the setting that a constructor calls by its own name, such as ``steps`` of 0.

    Args:
        key: what the constructor calls it.
        value: as the constructor shows it; a beginning of it is enough.
        settings: a configuration, or a part of it.
        path: of that part.

    Returns:
        Where this key has this value; None where it nowhere has.
    """
    found = list(_places(key.rpartition(".")[2], value, settings, path))
    return " and ".join(found[:3]) or None


def _places(key: str, value: str, settings: Any, path: str) -> Iterator[str]:
    if isinstance(settings, list | tuple):
        for place, item in enumerate(settings):
            yield from _places(key, value, item, f"{path}[{place}]")
    elif hasattr(settings, "items"):
        for name, item in settings.items():
            below = path if name == "init_args" else f"{path}.{name}" if path else str(name)
            if name == "class_path":
                if key == name and (str(item) == value or str(item).startswith(f"{value}.")):
                    yield path
            elif name == key and value.startswith((str(item), repr(item))):
                yield below
            yield from _places(key, value, item, below)
