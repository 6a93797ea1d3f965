"""How two pieces of work are compared: alternating, so that a busy machine disturbs both alike, and by medians.

On a CPU it is the processor's time that counts, of all threads: what others run meanwhile hardly changes it. Where work
waits (for a GPU, a disk, another process) it is the wall clock's.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Work = Callable[[], Any]


@dataclass(frozen=True)
class Compared:
    """Milliseconds of one step.

    Attributes:
        ours: through this package.
        bare: by hand.
        ratio: ours over bare; the median of the pairs, which is not the ratio of the medians.
    """

    ours: float
    bare: float
    ratio: float


def clock() -> float:
    """Seconds: of this process on the processor, or of the wall where a GPU is in use."""
    return time.perf_counter() if torch.cuda.is_initialized() else time.process_time()


def seconds(work: Work, now: Callable[[], float] = clock) -> float:
    """Of one call, all that it gave to a GPU included."""
    wait()
    start = now()
    work()
    wait()
    return now() - start


def compared(ours: Work, bare: Work, steps: int = 1, repeats: int = 7) -> Compared:
    """Both sides in turn, after one call of each that is not counted.

    Args:
        ours: one side.
        bare: the other.
        steps: of one call; what is reported is a step.
        repeats: pairs.
    """
    ours(), bare()
    pairs = [(seconds(ours), seconds(bare)) for _ in range(repeats)]
    return of_pairs([(mine / steps, theirs / steps) for mine, theirs in pairs])


def of_pairs(pairs: list[tuple[float, float]]) -> Compared:
    """Medians of pairs of seconds a step."""
    mine, theirs = zip(*pairs, strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    return Compared(statistics.median(mine) * 1e3, statistics.median(theirs) * 1e3, ratio)


def wait() -> None:
    """Until a GPU, where one is in use, has done what it was asked for."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
