"""Two plain descriptions, told apart key by key."""

import math
from collections.abc import Mapping
from typing import Any

SHOWN = 10
"""Differences that a message lists; the others are counted."""

LONGEST = 160
"""Characters of a value that a message shows in full."""


def differences(stored: Any, wanted: Any, then: str = "then", now: str = "now") -> list[str]:
    """One line for each key whose values differ, with both; none where the two are the same.

    A key that one side lacks is a difference. Floats count as equal within a relative 1e-9, since libraries round their
    last digits differently.

    Args:
        stored: the description that was kept, as it was read back from JSON.
        wanted: the description of what is asked for.
        then: says of what the stored values are.
        now: says of what the wanted values are.

    Returns:
        At most `SHOWN` lines, ``key: value then, value now``, and one that counts the others.
    """
    theirs, ours = (_leaves(value) if value != {} else {} for value in (stored, wanted))
    lines = [
        f"{key or 'value'}: {_shown(theirs, key)} {then}, {_shown(ours, key)} {now}"
        for key in dict.fromkeys([*theirs, *ours])
        if not (key in ours and key in theirs and _same(ours[key], theirs[key]))
    ]
    more = [f"… and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more


def comparable(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """One description without the code and settings of a user's class, where the other does not tell any.

    It may be older, or the same class may be another's: installed, it is not the user's any more.
    """
    untold = ("code", "settings") if "code" in one and "code" not in other else ()
    return {
        key: comparable(item, theirs) if isinstance(item, Mapping) and isinstance(theirs, Mapping) else item
        for key, item in one.items()
        if key not in untold
        for theirs in [other.get(key)]
    }


def _leaves(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        pairs = [(f"{key}.{name}" if key else str(name), item) for name, item in value.items()]
    elif isinstance(value, list | tuple) and value:
        pairs = [(f"{key}[{i}]", item) for i, item in enumerate(value)]
    else:
        return {key: value}
    return {path: leaf for name, item in pairs for path, leaf in _leaves(item, name).items()}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    text = repr(leaves[key]) if key in leaves else "absent"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 10]}… ({len(text)} characters)"
