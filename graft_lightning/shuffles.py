"""The endless order in which examples come."""

from collections.abc import Iterable
from functools import lru_cache

from graft_lightning.processes.noise import hashed_seed, shuffled


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
        self._recent: dict[int, list[int]] = {}  # lists: an element of a tensor costs a microsecond

    def __getitem__(self, index: int) -> int:
        number, offset = divmod(index, self.length)
        order = self._recent.get(number)  # held here: another thread may drop it meanwhile
        if order is None:
            order = shuffled(self.length, hashed_seed(self.purpose, self.seed, number)).tolist()
            if len(self._recent) > 1:  # a batch touches two neighbours at most
                self._recent.pop(min(self._recent), None)
            self._recent[number] = order
        return order[offset]

    def at(self, positions: Iterable[int]) -> list[int]:
        """The elements at several places."""
        return [self[position] for position in positions]


@lru_cache(maxsize=8)
def shuffles(length: int, seed: int, purpose: str) -> Shuffles:
    """`Shuffles`, kept from one batch to the next where nobody can hold on to them."""
    return Shuffles(length, seed, purpose)
