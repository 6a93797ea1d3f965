"""Prompts for pairs of handwritten digits: what can be said, what it means, how it is split.

The grammar has five sentences, `A` and `B` being the words *zero* to *nine*:

    a A to the left of a B      a A to the right of a B
    a A above a B               a A below a B               two As

A prompt's meaning is the set of layouts that would satisfy it. A layout names the digit in each of two slots; the
relations have one layout each, *two threes* has two (side by side, one above the other).
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations

import torch
from torch import Tensor

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLURALS = tuple(f"{word}es" if word == "six" else f"{word}s" for word in WORDS)
SLOTS = ("left", "right", "top", "bottom")
LEFT, RIGHT, TOP, BOTTOM = range(4)

RELATIONS = {
    "to the left of": (LEFT, RIGHT),
    "to the right of": (RIGHT, LEFT),
    "above": (TOP, BOTTOM),
    "below": (BOTTOM, TOP),
}
"""Each relation with the slots of its first and of its second digit."""

Layout = tuple[tuple[int, int], ...]
"""Pairs (slot, digit), sorted by slot."""

NOTHING = 10
"""The token of a slot of which a prompt says nothing."""

VOCABULARY = 11
"""Tokens: the ten digits, and `NOTHING`."""

SPLITS = ("train", "tune", "report")
_PER_RELATION = {"train": 19, "tune": 6, "report": 11}
_PER_KIND = {"train": 4, "tune": 2, "report": 4}

_RELATION = re.compile(rf"an? ({'|'.join(WORDS)}) ({'|'.join(RELATIONS)}) an? ({'|'.join(WORDS)})")
_KIND = re.compile(rf"two ({'|'.join(PLURALS)})")
_UNDERSTOOD = (
    'understood are "a three to the left of a seven", "... to the right of ...", "... above ...", "... below ..." '
    f'and "two threes", with the digits {", ".join(WORDS)}'
)


def relation_prompt(first: int, relation: str, second: int) -> str:
    """Return the sentence that puts digit `first` in `relation`, a key of `RELATIONS`, to digit `second`."""
    return f"{_with_article(first)} {relation} {_with_article(second)}"


def kind_prompt(digit: int) -> str:
    """Return the sentence that asks for two copies of `digit`, in either arrangement."""
    return f"two {PLURALS[digit]}"


@lru_cache(maxsize=4096)
def layouts(prompt: str) -> tuple[Layout, ...]:
    """Return the layouts, each a tuple of (slot, digit), any of which satisfies `prompt`.

    Raises:
        ValueError: if the prompt is outside the grammar; the message quotes it and says what is understood.
    """
    sentence = _normalised(prompt)
    if match := _RELATION.fullmatch(sentence):
        first, relation, second = match.groups()
        shown = zip(RELATIONS[relation], (WORDS.index(first), WORDS.index(second)), strict=True)
        return (tuple(sorted(shown)),)
    if match := _KIND.fullmatch(sentence):
        digit = PLURALS.index(match[1])
        return ((LEFT, digit), (RIGHT, digit)), ((TOP, digit), (BOTTOM, digit))
    raise ValueError(f"prompt {prompt!r} is not understood; {_UNDERSTOOD}")


def encode(prompts: Sequence[str]) -> Tensor:
    """Return what the prompts ask for as tokens (B, 4), int64: for each of `SLOTS` its digit, or `NOTHING`.

    The grammar stands in for the frozen text encoder of a large model: it is exact, so that all that pre-training and
    fine-tuning have to learn is to do what they are told. A prompt with two layouts, *two threes*, names the digit in
    all four slots; the null prompt "" names none.

    Raises:
        ValueError: if a prompt is not understood.
    """
    return torch.tensor([_tokens(prompt) for prompt in prompts], dtype=torch.int64).reshape(-1, len(SLOTS))


def prompts(split: str) -> list[str]:
    """Return the prompts of one split, always the same ones in the same order.

    `train` (80) is fine-tuned on, `tune` (26) is for choosing settings, `report` (48) for reporting. No two splits
    share a layout: where one holds "a three to the left of a seven", none of the others says "a seven to the right of
    a three" either.

    Raises:
        ValueError: if `split` is not one of `SPLITS`.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; there are {', '.join(SPLITS)}")
    return list(_splits()[split])


@lru_cache(maxsize=1)
def _splits() -> dict[str, tuple[str, ...]]:
    generator = torch.Generator().manual_seed(0)
    parts: dict[str, list[str]] = {split: [] for split in SPLITS}
    for forward, backward in (("to the left of", "to the right of"), ("above", "below")):
        # Each arrangement of two different digits is worded once, so that no split can hold another's paraphrase.
        arrangements = list(permutations(range(10), 2))
        pairs = iter([arrangements[i] for i in torch.randperm(90, generator=generator).tolist()])
        for split in SPLITS:
            for _ in range(_PER_RELATION[split]):
                first, second = next(pairs)
                parts[split].append(relation_prompt(first, forward, second))
                first, second = next(pairs)
                parts[split].append(relation_prompt(second, backward, first))
    digits = iter(torch.randperm(10, generator=generator).tolist())
    for split in SPLITS:
        parts[split].extend(kind_prompt(next(digits)) for _ in range(_PER_KIND[split]))
    return {split: tuple(found) for split, found in parts.items()}


def _with_article(digit: int) -> str:
    return f"{'an' if WORDS[digit] == 'eight' else 'a'} {WORDS[digit]}"


def _normalised(prompt: str) -> str:
    return " ".join(prompt.lower().split()).removesuffix(".")


@lru_cache(maxsize=4096)
def _tokens(prompt: str) -> tuple[int, ...]:
    named = {slot: digit for layout in layouts(prompt) for slot, digit in layout} if prompt else {}
    return tuple(named.get(slot, NOTHING) for slot in range(len(SLOTS)))
