"""A stream of batches whose place can be saved: what comes next is a function of a position and nothing else."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.noise import place_seeds
from graft_lightning.types import Batch

Positions = Sequence[int]

QUICK = 0.002
"""Seconds. What is read in less is not worth a thread: to hand a batch over, and to share the interpreter, costs a good
part of them."""
IN_A_ROW = 8
"""Quick batches that are read one after the other: after a step of a network each takes twice as long by itself, for
little of what it needs is left in the processor's caches."""
FEWEST, MOST = 8, 64
"""Batches that the thread reads before it is tried again how long one takes by itself, with nothing beside it."""


class StreamLoader:
    """Batches of an endless stream, cut into epochs; resumes in the middle of one.

    While a step runs, a thread reads the batch of the next one, of the same epoch and no further: what an epoch begins
    with (a round of the pool) is in place before anything of it is read. The thread lives as long as the iteration. An
    error of reading is raised where its batch is asked for. Batches that take no time are read without the thread, some
    in a row.

    Global batch j holds the positions ``j batch_size world .. (j + 1) batch_size world - 1``, of which each process
    takes its contiguous part: two processes with half the batch see the examples of one.

    Attributes:
        prepare: what is done with the conditions of a batch that has been read; nothing by default.

    Args:
        read: positions -> batch; called by one thread at a time, which need not be the caller's.
        batch_size: examples per process and step.
        steps_per_epoch: steps that Lightning calls an epoch.
        rank: of this process.
        world: number of processes.
        epoch: asked when an epoch begins or goes on: how many of its batches are over, and how many it has, where
            somebody else counts them; None where nobody does.
    """

    def __init__(
        self,
        read: Callable[[Positions], Batch],
        batch_size: int,
        steps_per_epoch: int,
        rank: int = 0,
        world: int = 1,
        epoch: Callable[[], tuple[int, int] | None] = lambda: None,
    ) -> None:
        self.read = read
        self.prepare: Callable[[Sequence[str]], None] | None = None
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.rank, self.world = rank, world
        self.epoch = epoch
        self.steps_done = 0
        self._into_epoch = 0
        self._by_thread = self._row = 0

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        done, length = self.epoch() or (self._into_epoch, self.steps_per_epoch)
        self._into_epoch = 0
        with ThreadPoolExecutor(1, "next batch") as reader:
            ahead: Future[Batch] | None = None
            there: deque[Batch] = deque()
            for step in range(done, length):
                if ahead is not None:
                    batch = ahead.result()
                else:
                    there = there or self._in_a_row(length - step)
                    batch = there.popleft()
                more = step + 1 < length and not there
                ahead = self._ahead(reader) if more else None
                self.steps_done += 1  # before the yield: a checkpoint after this step must not repeat it
                yield batch

    def _in_a_row(self, left: int) -> deque[Batch]:
        """The next batch, and of the ``left`` some that follow, up to one that takes time or cannot be read."""
        found = deque([self._timed(0)])
        with suppress(Exception):  # which is raised where the batch is asked for
            while not self._by_thread and len(found) < min(IN_A_ROW, left):
                found.append(self._timed(len(found)))
        return found

    def _timed(self, ahead: int) -> Batch:
        """A batch, read here; of a thread the time would be that of the step beside it too."""
        begin = time.perf_counter()
        batch = self._read(self._positions(ahead))
        if time.perf_counter() - begin < QUICK:
            self._row = 0
        else:
            self._row = min(max(FEWEST, 2 * self._row), MOST)
        self._by_thread = self._row
        return batch

    def _ahead(self, reader: ThreadPoolExecutor) -> "Future[Batch] | None":
        """The batch after the next, which the thread reads; None where that is not worth it, or is to be tried."""
        if not self._by_thread:
            return None
        self._by_thread -= 1
        return reader.submit(self._read, self._positions(1))

    def _positions(self, ahead: int) -> Positions:
        """Those of the batch of so many steps from here, which is not given out yet."""
        start = ((self.steps_done + ahead) * self.world + self.rank) * self.batch_size
        return range(start, start + self.batch_size)

    def _read(self, positions: Positions) -> Batch:
        """A batch, pinned where a GPU is in use."""
        batch = self.read(positions)
        if self.prepare is not None:
            self.prepare(batch.conditions)
        return batch.pinned() if torch.cuda.is_initialized() else batch

    def state_dict(self) -> dict[str, Any]:
        """The number of steps that have been given out; what is read ahead is not counted."""
        return {"steps_done": self.steps_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues after the steps of a saved state."""
        self.steps_done = int(state["steps_done"])
        self._into_epoch = self.steps_done % self.steps_per_epoch


def noise_seeds(seed: int, positions: Positions) -> Tensor:
    """The seed of the training noise of every position of a stream, int64 ``(batch,)``."""
    return place_seeds("noise", seed, positions)
