"""Conditions are held against the model before anything is sampled."""

import logging
from collections import Counter
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from graft_lightning.domains.base import listed
from graft_lightning.rejection.reference import Reference
from graft_lightning.types import SettingsError

log = logging.getLogger(__name__)


def refuse_conditions(codec: Any, data: Any, *names: str) -> None:
    """Refuses conditions that the model is not defined for, and says which are there more than once.

    Args:
        codec: of the samples: a `Reference`, or what has no conditions.
        data: the data module.
        names: which of its conditions, such as "validation"; those that are absent are passed by.

    Raises:
        SettingsError: naming the key, and the first that is not understood.
    """
    if not isinstance(codec, Reference):
        return
    picky = type(codec).refuse is not Reference.refuse
    for name in names:
        conditions = getattr(data, name, None)
        if conditions is None or not (picky or name == "conditions"):  # held-out ones are read when they are drawn
            continue
        try:
            texts = listed(conditions)
        except SettingsError as error:
            raise SettingsError(f"data.{name}: {error}") from error
        repeated = [text for text, times in Counter(texts).items() if times > 1]
        if repeated:
            _warn(
                "data.%s: %d of %d conditions repeat another, such as %r: their samples are the same, and count again",
                name,
                len(texts) - len(set(texts)),
                len(texts),
                repeated[0],
            )
        try:
            codec.refuse(texts)
        except ValueError as error:
            raise SettingsError(f"data.{name}: {error}") from error


@rank_zero_only
def _warn(message: str, *values: Any) -> None:
    log.warning(message, *values)
