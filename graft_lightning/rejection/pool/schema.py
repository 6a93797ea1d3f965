"""What the manifests of each kind must hold, key by key, so that a wrong one is refused by the name of its key."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Key(NamedTuple):
    """What a value must be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _whole(least: int | None = None) -> Key:
    words = "a whole number" + ("" if least is None else f" of at least {least}")
    return Key(words, lambda value: type(value) is int and (least is None or value >= least))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_level(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _are_levels(value: Any) -> bool:
    return isinstance(value, dict) and all(n.isdecimal() and _is_level(level) for n, level in value.items())


def _is_run(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 3 or not isinstance(value[0], str):
        return False
    return all(type(number) is int for number in value[1:]) and 0 <= value[1] < value[2]


MAPPING = Key("a mapping", lambda value: isinstance(value, dict))
TEXT = Key("a text", lambda value: isinstance(value, str))
LEVEL = Key("two numbers, t and log(alpha_t / sigma_t)", _is_level)
ROWS = Key(
    "a list of one or more [condition, first draw, draw after the last]",
    lambda value: isinstance(value, list) and bool(value) and all(map(_is_run, value)),
)
PART: dict[str, Key] = {
    "made_for": TEXT,
    "rows": ROWS,
    "kept_levels": Key("a mapping of state indices to two numbers", _are_levels),
    "keep_as": Key(
        "float16, bfloat16 or null",
        lambda value: value is None or (isinstance(value, str) and value in ("float16", "bfloat16")),
    ),
    "shard_size": _whole(1),
}
KEYS: dict[str, dict[str, Key]] = {
    "pool": {"fingerprint": MAPPING, "run_seed": _whole()},
    "round": {"fingerprint": MAPPING, "index": _whole(0), **PART},
    "part": PART,
    "level": {"made_for": TEXT, "level": LEVEL},
    "reward": {
        "fingerprint": Key("a description", lambda value: isinstance(value, dict | list | str)),
        "groupwise": Key("true or false", lambda value: isinstance(value, bool)),
    },
}
"""By kind of manifest."""


def fault(kind: str, manifest: Mapping[str, Any]) -> str | None:
    """In words, the first key of a manifest that is absent or of a wrong type; None where all are right."""
    for name, key in KEYS[kind].items():
        if name not in manifest:
            return f"it lacks the key {name!r}, {key.words}"
        if not key.holds(manifest[name]):
            return f"{name} is {manifest[name]!r:.100}; it must be {key.words}"
    return None
