"""Accepted trajectories as an endless stream of training examples, any place of which can be asked for."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Literal

import torch
from torch import Tensor

from graft_lightning.processes.noise import hashed_seed, place_seeds
from graft_lightning.rejection.acceptance import Acceptance
from graft_lightning.rejection.pool import Round
from graft_lightning.rejection.selection import Selection, select
from graft_lightning.rejection.stored import StoredStates
from graft_lightning.shuffles import Shuffles
from graft_lightning.types import Batch


class Stream(ABC):
    """An endless stream of training examples."""

    @abstractmethod
    def read(self, positions: Sequence[int]) -> Batch:
        """The examples at positions of the stream."""

    def batches(self, batch_size: int, steps: int | None = None, start: int = 0) -> Iterator[Batch]:
        """Batches for a loop of one's own: those that a process which trains alone by Lightning sees.

        Args:
            batch_size: examples a step.
            steps: how many batches; without end by default.
            start: how many were trained on before, where a loop goes on.

        Raises:
            ValueError: if there is nothing in a batch.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; it must be at least 1")
        numbers = count(start) if steps is None else range(start, start + steps)
        return (self.read(range(number * batch_size, (number + 1) * batch_size)) for number in numbers)


class TensorStream(Stream):
    """Data that are at hand, in endless shuffles.

    Args:
        x_0: ``(count, *shape)``.
        conditions: one text a datum; none by default.
        seed: of the shuffles, and with a position of the training noise.

    Raises:
        ValueError: if there are no data, or another number of conditions.
    """

    def __init__(self, x_0: Tensor, conditions: Sequence[str] | None = None, seed: int = 0) -> None:
        if conditions is not None and len(conditions) != len(x_0):
            raise ValueError(f"{len(conditions)} conditions for {len(x_0)} data; give one for each, or none")
        self.x_0, self.seed = x_0, seed
        self.conditions = [""] * len(x_0) if conditions is None else list(conditions)
        self._shuffles = Shuffles(len(x_0), hashed_seed("tensor", seed))

    def read(self, positions: Sequence[int]) -> Batch:
        chosen = self._shuffles.at(positions)
        texts = [self.conditions[i] for i in chosen]
        return Batch(self.x_0[chosen], texts, place_seeds("noise", self.seed, positions), torch.ones(len(chosen)))


class AcceptedStream(Stream):
    """First a condition, then one of its accepted trajectories: conditions count alike, whatever each has accepted.

    Attributes:
        selection: what was accepted.
        level: of the streamed states, where training begins and a stitched model hands off; 0 of x_0.

    Args:
        pool_round: a complete round.
        acceptance: the rule.
        reward: name of the reward to accept by.
        state: index N_I of the states to stream, or "x_0"; 0 is "x_0" too.
        seed: of the run; with the round it gives the order, and of each position the training noise.
        drop_without_signal: leave out conditions whose rewards are all equal.

    Raises:
        ValueError: if nothing is accepted, or the round has not kept these states; names those that it has.
    """

    def __init__(
        self,
        pool_round: Round,
        acceptance: Acceptance,
        reward: str,
        state: int | Literal["x_0"] = "x_0",
        seed: int = 0,
        drop_without_signal: bool = True,
    ) -> None:
        self._stored = StoredStates(pool_round, state)
        self.selection: Selection = select(
            pool_round.rewards(reward),
            pool_round.column("key"),
            pool_round.column("seed"),
            acceptance,
            drop_without_signal,
        )
        self.seed = seed
        self._members = [
            list(zip(indices.tolist(), weights.tolist(), strict=True))
            for indices, weights in zip(self.selection.members, self.selection.weights, strict=True)
        ]
        self._round = pool_round
        self.level = self._stored.level
        self._shuffles: dict[tuple[str, int, int], Shuffles] = {}

    def read(self, positions: Sequence[int]) -> Batch:
        indices, weights = zip(*map(self._member, positions), strict=True)
        x, texts = self._stored.read(indices)
        return Batch(x, texts, place_seeds("noise", self.seed, positions), torch.tensor(weights))

    def _member(self, position: int) -> tuple[int, float]:
        number = position // len(self._members)
        condition = self._shuffle("conditions", 0, len(self._members))[position]
        members = self._members[condition]
        return members[self._shuffle("members", condition, len(members))[number]]

    def _shuffle(self, what: str, which: int, length: int) -> Shuffles:
        key = (what, which, length)
        if key not in self._shuffles:
            self._shuffles[key] = Shuffles(length, hashed_seed(what, which, self.seed, self._round.index))
        return self._shuffles[key]
