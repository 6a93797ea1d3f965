"""Layouts of which part is known, as text: the conditions of all conditional tasks.

    n=4                                                nothing but the number of elements
    n=4 | title | text | text | figure                 labels
    n=4 | title ? ? 0.8 0.04 | text ? ? 0.4 0.3        labels and sizes (of two elements; two are free)
    n=4 | title 0.5 0.1 0.8 0.04                       completion: one element is there
    n=4 | ? | ? | title 0.5 0.1 0.8 0.04               the same, but for the place of the element in the result
    n=2 | text ~0.5 ~0.1 ~0.8 ~0.2 | text ~.5 ~.4 ~.8 ~.2      refinement: boxes are known roughly

After the number of elements, one part for each element that something is known of, in the order of the result: its
label, then centre x, centre y, width and height as shares of the page's sides. ``?`` stands for what is free, ``~``
before what is known roughly.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from graft_lightning.domains.layouts.conditions import count_of
from graft_lightning.domains.layouts.vocabularies import Vocabulary
from graft_lightning.types import SettingsError

FREE = "?"
ROUGHLY = "~"
UNKNOWN = (math.nan,) * 4


@dataclass(frozen=True)
class Known:
    """What is known of one element.

    Attributes:
        label: its index; None where it is free.
        box: centre x, centre y, width, height in [0, 1]; NaN where free.
        rough: whether each of them is known only roughly.
    """

    label: int | None = None
    box: tuple[float, ...] = UNKNOWN
    rough: tuple[bool, ...] = (False,) * 4


def written(count: int, known: Sequence[Known], vocabulary: Vocabulary) -> str:
    """The condition that asks for ``count`` elements, something of which is known; numbers to five decimals."""
    parts = [_written(one, vocabulary) for one in known]
    while parts and parts[-1] == FREE:
        parts.pop()
    return " | ".join([f"n={count}", *parts])


def shortened(caption: str) -> str:
    """A caption that begins with a condition, with how many elements something is known of in place of what is known.

    What stands behind the condition in brackets, such as its reward, stays.
    """
    head, bar, rest = caption.partition(" | ")
    parts = [part.strip() for part in rest.split("|")]
    behind = re.search(r" \([^()|]*\)$", rest)
    number = sum(part.partition(" (")[0] != FREE for part in parts)
    return f"{head}, {number} known{behind.group() if behind else ''}" if bar else caption


def _written(one: Known, vocabulary: Vocabulary) -> str:
    label = FREE if one.label is None else vocabulary.labels[one.label].replace(" ", "_")
    if all(map(math.isnan, one.box)):
        return label
    return " ".join([label, *(_number(value, rough) for value, rough in zip(one.box, one.rough, strict=True))])


def _number(value: float, rough: bool) -> str:
    return FREE if math.isnan(value) else f"{ROUGHLY if rough else ''}{value:.5g}"


def read(condition: str, vocabulary: Vocabulary) -> tuple[int, list[Known]]:
    """The number of elements that a condition asks for, and what is known of the first of them.

    Raises:
        SettingsError: if it is not understood, names a label that the vocabulary lacks, or knows of more elements than
            it asks for.
    """
    head, *parts = (part.strip() for part in condition.split("|"))
    count = count_of(head)
    if len(parts) > count:
        raise SettingsError(f"condition {condition!r} asks for n={count} elements and tells of {len(parts)}")
    return count, [_read(part, condition, vocabulary) for part in parts]


def _read(part: str, condition: str, vocabulary: Vocabulary) -> Known:
    words = part.split()
    if len(words) not in (1, 5):
        raise SettingsError(
            f"condition {condition!r}: {part!r} should be a label, or a label and four numbers (centre x, centre y, "
            f"width, height), {FREE} where something is free"
        )
    label = None
    if words[0] != FREE:
        label = vocabulary.index(words[0])
        if label is None:
            raise SettingsError(
                f"condition {condition!r}: {words[0]!r} is no label; those of {vocabulary.name} are "
                f"{', '.join(name.replace(' ', '_') for name in vocabulary.labels)}, or {FREE}"
            )
    if len(words) == 1:
        return Known(label)
    box = tuple(_value(word, condition) for word in words[1:])
    return Known(label, box, tuple(word.startswith(ROUGHLY) for word in words[1:]))


def _value(word: str, condition: str) -> float:
    if word == FREE:
        return math.nan
    try:
        value = float(word.removeprefix(ROUGHLY))
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise SettingsError(f"condition {condition!r}: {word!r} should be a number in [0, 1], or {FREE}")
    return value
