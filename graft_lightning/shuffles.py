"""The endless order in which examples come."""

from collections.abc import Iterable
from functools import lru_cache

from graft_lightning.processes.noise import hashed_seed, shuffles_of

TOGETHER = 64
"""Elements of short shuffles that are made at once: one by one they would take most of the time of reading a batch."""


class Shuffles:
    """An endless concatenation of shuffles of ``range(length)``, any place of which can be asked for.

    Args:
        length: of one shuffle.
        seed: decides all of them.
        purpose: each has shuffles of its own.

    Raises:
        ValueError: if there is nothing to shuffle.
    """

    def __init__(self, length: int, seed: int, purpose: str = "shuffle") -> None:
        if length < 1:
            raise ValueError(f"length={length}; at least 1 element is needed, to be shuffled")
        self.length, self.seed, self.purpose = length, seed, purpose
        self._together = 1 << max(TOGETHER // length, 1).bit_length() - 1
        self._recent: dict[int, list[int]] = {}  # lists: an element of a tensor costs a microsecond

    def __getitem__(self, index: int) -> int:
        if self.length == 1:
            return 0
        first, last = self._made_with(index // self.length)
        orders = self._recent.get(first)  # held here: another thread may drop it meanwhile
        if orders is None:
            seeds = [hashed_seed(self.purpose, self.seed, number) for number in range(first, last + 1)]
            orders = shuffles_of(self.length, seeds).flatten().tolist()
            if len(self._recent) > 1:  # a batch touches two neighbours at most
                self._recent.pop(min(self._recent), None)
            self._recent[first] = orders
        return orders[index - first * self.length]

    def _made_with(self, number: int) -> tuple[int, int]:
        """First and last of the shuffles that are made at once: at first few, for often no more are asked for."""
        if number >= self._together:
            first = number - number % self._together
            return first, first + self._together - 1
        first = 1 << number.bit_length() >> 1
        return first, max(2 * first - 1, 0)

    def at(self, positions: Iterable[int]) -> list[int]:
        """The elements at several places."""
        return [self[position] for position in positions]


@lru_cache(maxsize=8)
def shuffles(length: int, seed: int, purpose: str) -> Shuffles:
    """`Shuffles`, kept from one batch to the next where nobody can hold on to them."""
    return Shuffles(length, seed, purpose)
