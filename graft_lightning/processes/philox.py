"""Philox4x64-10: random bits that are a function of a key and a counter, the same on every device.

Ten rounds of multiplication turn a counter of four 64-bit words and a key of two into four words of random bits. On
the CPU the bits come from NumPy (`philox_numpy`); everywhere else they come from operations on whole int64 tensors,
which wait for nothing on the host and which `torch.compile` can fuse. Both give the same bits.

References:
    Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from graft_lightning.processes.philox_numpy import KEY_STEPS, MULTIPLIERS, ROUNDS, WORDS, generator, short_rows
from graft_lightning.processes.splitmix import shifted_right, signed

_LOW = 2**32 - 1

_CACHED_WORDS = 2**14
"""Words a part of a batch on the CPU: with what is made of them they stay in the second-level cache."""
_SHORT_WORDS, _MANY_ROWS = 16, 128
"""From so many rows of at most so many words, whole-array operations cost less than one call of NumPy's per row."""


def philox(counter: Tensor, key: Tensor) -> Tensor:
    """Random words, int64 ``(4, *)``, whose 64 bits stand for unsigned numbers.

    Args:
        counter: int64 ``(4, *)``, lowest word first.
        key: int64 ``(2, *)``, of as many dimensions; sizes are broadcast.
    """
    whole, steps = _pair(*MULTIPLIERS, like=counter), _pair(*KEY_STEPS, like=counter)
    multipliers = whole, shifted_right(whole, 32), whole & _LOW
    even, odd = counter[0::2], counter[1::2]
    for n in range(ROUNDS):
        high, low = _product(even, multipliers)
        even = high.flip(0) ^ odd ^ (key + steps * n)
        odd = low.flip(0)
    return torch.stack([even, odd.expand_as(even)], 1).flatten(0, 1)


def rows_of_words(seeds: Tensor, stream: int, draw: int, words: int) -> Tensor:
    """The words of one draw by whole-tensor operations, int64 ``(batch, words)``.

    Word w of a row is word ``w % 4`` of the counter ``(w // 4 + 1, draw, stream, 0)`` under the key ``(seed, 0)``.

    Args:
        seeds: int64 ``(batch,)``, on the device of the result.
        stream: which of the sequences of draws of a seed.
        draw: place in that sequence.
        words: of every row.
    """
    blocks = -(-words // WORDS)
    first = torch.arange(1, blocks + 1, device=seeds.device).unsqueeze(0)
    counter = torch.stack([first, first.new_full((1, blocks), draw), first.new_full((1, blocks), stream), first * 0])
    key = torch.stack([seeds, torch.zeros_like(seeds)]).unsqueeze(-1)
    return philox(counter, key).movedim(0, -1).flatten(1)[:, :words]


def parts_of_words(seeds: Tensor, stream: int, draw: int, words: int) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """`rows_of_words` on the CPU in parts that fit its cache: which rows and words, and their bits."""
    width = max(1, min(words, _CACHED_WORDS))
    height = _CACHED_WORDS // width
    short = words <= _SHORT_WORDS and len(seeds) >= _MANY_ROWS
    keys = seeds.numpy().view(np.uint64)
    for top in range(0, len(seeds), height):
        rows = slice(top, min(top + height, len(seeds)))
        for left in range(0, words, width):
            columns = slice(left, min(left + width, words))
            if short:
                part = short_rows(keys[rows], stream, draw, words)
            else:
                part = generator.words(keys[rows], stream, draw, left, columns.stop - left)
            yield (rows, columns), torch.from_numpy(part.view(np.int64))


def _product(numbers: Tensor, constants: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Upper and lower 64 bits of unsigned products, from four products of 32-bit halves."""
    whole, upper, lower = constants
    a, b = numbers & _LOW, shifted_right(numbers, 32)
    right = b * lower + shifted_right(a * lower, 32)
    left = a * upper + (right & _LOW)
    return b * upper + shifted_right(right, 32) + shifted_right(left, 32), numbers * whole


def _pair(first: int, second: int, like: Tensor) -> Tensor:
    """Two constants ``(2, 1, ...)``, made on the device of ``like``: a copy from the host would wait for it."""
    place = torch.arange(2, device=like.device).view(2, *[1] * (like.ndim - 1))
    return place * signed(second - first) + signed(first)
