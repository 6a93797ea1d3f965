"""Philox4x64-10 on the CPU by NumPy: its own generator for long rows, operations on whole arrays for many short ones.

Both give the words that `philox.rows_of_words` defines; which one does is a question of time alone.
"""

import ctypes
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

WORDS = 4
ROUNDS = 10
MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
KEY_STEPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B

_CACHED_WORDS = 2**14
"""Words a part of a batch: with what is made of them they stay in the second-level cache."""
_SHORT_WORDS, _MANY_ROWS = 16, 256
"""From so many rows of at most so many words, whole-array operations cost less than one call of NumPy's per row."""

_HALF = np.uint64(32)
_LOW = np.uint64(2**32 - 1)
_WHOLE = np.array(MULTIPLIERS, np.uint64).reshape(2, 1, 1)
_STEPS = np.array(KEY_STEPS, np.uint64).reshape(2, 1, 1)
_UPPER, _LOWER = _WHOLE >> _HALF, _WHOLE & _LOW


def parts_of_words(
    keys: np.ndarray, stream: int, draw: int, words: int
) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """The words of one draw in parts that fit the cache: which rows and words, and their bits, uint64.

    Args:
        keys: the seeds, uint64 ``(rows,)``.
        stream: which of the sequences of draws of a seed.
        draw: place in that sequence.
        words: of every row.
    """
    width = max(1, min(words, _CACHED_WORDS))
    height = _CACHED_WORDS // width
    short = words <= _SHORT_WORDS and len(keys) >= _MANY_ROWS
    for top in range(0, len(keys), height):
        rows = slice(top, min(top + height, len(keys)))
        for left in range(0, words, width):
            columns = slice(left, min(left + width, words))
            if short:
                yield (rows, columns), short_rows(keys[rows], stream, draw, words)
            else:
                yield (rows, columns), generator.words(keys[rows], stream, draw, left, columns.stop - left)


class Generator(threading.local):
    """NumPy's generator, set to any place of any seed; one a thread, since to make one takes longer than most draws."""

    def __init__(self) -> None:
        self._philox = np.random.Philox(key=0)
        self._counter = np.zeros(4, np.uint64)
        self._key = np.zeros(2, np.uint64)
        self._state = self._philox.state | {"state": {"counter": self._counter, "key": self._key}}
        self._within = within(self._philox)

    def words(self, keys: np.ndarray, stream: int, draw: int, first: int, count: int) -> np.ndarray:
        """Words of one draw of every row, uint64 ``(rows, count)``.

        Args:
            keys: the seeds, uint64 ``(rows,)``, at least one.
            stream: which of the sequences of draws of a seed.
            draw: place in that sequence.
            first: the first of the words, a multiple of four.
            count: how many.
        """
        philox, state, key = self._philox, self._state, self._key
        begin = first // WORDS  # NumPy counts up before it makes a block
        self._counter[:3] = begin, draw, stream
        rows = []
        if self._within is None:
            for key[0] in keys:
                philox.state = state
                rows.append(philox.random_raw(count))
        else:
            whole = -(-count // WORDS) * WORDS  # so that nothing of a block is left over for the next row
            philox.state = state
            counter_within, key_within = self._within
            for seed in keys.tolist():
                counter_within[0], key_within[0] = begin, seed
                rows.append(philox.random_raw(whole))
            if whole != count:
                rows = [row[:count] for row in rows]
        return (rows[0] if len(rows) == 1 else np.concatenate(rows)).reshape(len(rows), count)


def within(philox: np.random.Philox) -> tuple[ctypes.Array, ctypes.Array] | None:
    """Counter and key where a generator itself keeps them: to set them there takes half the time of a short draw.

    NumPy gives the address of the state, but makes no promise of what lies there: two pointers, into the generator.
    Where they are none, or point to something else, there is None.
    """
    begin, size = id(philox), sys.getsizeof(philox)
    places = (ctypes.c_uint64 * 2).from_address(philox.ctypes.state_address)
    found = []
    for place, words in zip(places, (WORDS, 2), strict=True):
        if not begin <= place <= begin + size - 8 * words:
            return None
        found.append((ctypes.c_uint64 * words).from_address(place))
    counter, key = found
    told = {"counter": np.arange(11, 15, dtype=np.uint64), "key": np.arange(21, 23, dtype=np.uint64)}
    state: Any = {**philox.state, "state": told}
    philox.state = state
    return (counter, key) if [*counter] == [11, 12, 13, 14] and [*key] == [21, 22] else None


def short_rows(keys: np.ndarray, stream: int, draw: int, words: int) -> np.ndarray:
    """The first words of every row, uint64 ``(rows, words)``: few operations, whatever the number of rows."""
    blocks = -(-words // WORDS)
    even = np.empty((2, len(keys), blocks), np.uint64)
    even[0], even[1] = np.arange(1, blocks + 1, dtype=np.uint64), np.uint64(stream)
    odd = np.zeros_like(even)
    odd[0] = np.uint64(draw)
    key = np.zeros((2, len(keys), 1), np.uint64)
    key[0, :, 0] = keys
    for _ in range(ROUNDS):
        low = even * _WHOLE
        high = _upper_half(even)
        even = np.bitwise_xor(high[::-1], odd, out=high)
        even ^= key
        odd = low[::-1]
        key = key + _STEPS
    return np.stack([even[0], odd[0], even[1], odd[1]], -1).reshape(len(keys), -1)[:, :words]


def _upper_half(numbers: np.ndarray) -> np.ndarray:
    """Upper 64 bits of the products with the multipliers, from four products of 32-bit halves."""
    a, b = numbers & _LOW, numbers >> _HALF
    right = a * _LOWER
    right >>= _HALF
    right += b * _LOWER
    a *= _UPPER
    a += right & _LOW
    a >>= _HALF
    b *= _UPPER
    right >>= _HALF
    b += right
    b += a
    return b


generator = Generator()
