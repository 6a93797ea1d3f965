"""Conditions are held against the model before anything is sampled."""

from typing import Any

from graft_lightning.types import SettingsError


def refuse_conditions(codec: Any, data: Any, *names: str) -> None:
    """Refuses conditions that the model is not defined for.

    Args:
        codec: of the samples: a `Reference`, or what has no conditions.
        data: the data module.
        names: which of its conditions, such as "validation"; those that are absent are passed by.

    Raises:
        SettingsError: naming the key, and the first that is not understood.
    """
    refuse = getattr(codec, "refuse", None)
    for name in names if refuse is not None else ():
        conditions = getattr(data, name, None)
        if conditions is None:
            continue
        try:
            refuse(conditions.texts())
        except ValueError as error:
            raise SettingsError(f"data.{name}: {error}") from error
