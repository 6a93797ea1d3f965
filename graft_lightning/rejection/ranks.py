"""The processes that share a piece of work, as the core sees them: it neither starts nor knows a trainer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ranks:
    """This process among those that work together; by default it is alone.

    Attributes:
        rank: of this process, 0 to ``world - 1``.
        world: number of processes.
        broadcast: gives every process what process 0 gives. Collective.
        barrier: returns once every process has called it. Collective.
        counter: makes a counter that all processes share: each call of it gives the next number, 0 first, to one of
            them. Collective. Where it is None, work is shared out beforehand.
    """

    rank: int = 0
    world: int = 1
    broadcast: Callable[[Any], Any] = lambda value: value
    barrier: Callable[[], Any] = lambda: None
    counter: Callable[[], Callable[[], int]] | None = None


ALONE = Ranks()
