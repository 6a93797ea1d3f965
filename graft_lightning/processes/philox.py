"""Philox4x64-10: random bits that are a function of a key and a counter, the same on every device.

Ten rounds of multiplication turn a counter of four 64-bit words and a key of two into four words of random bits. On
the CPU the bits come from NumPy (`philox_numpy`); everywhere else they come from operations on whole int64 tensors,
which wait for nothing on the host and which `torch.compile` can fuse. Both give the same bits.

References:
    Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

import torch
from torch import Tensor

from graft_lightning.processes.philox_numpy import KEY_STEPS, MULTIPLIERS, ROUNDS, WORDS
from graft_lightning.processes.splitmix import shifted_right, signed

_LOW = 2**32 - 1


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
