"""Accepted trajectories as an endless stream of training examples, any place of which can be asked for."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from graft_lightning.processes.noise import hashed_seed, place_seeds
from graft_lightning.rejection.acceptance import Acceptance
from graft_lightning.rejection.pool import Round
from graft_lightning.rejection.selection import Selection, select
from graft_lightning.shuffles import Shuffles
from graft_lightning.types import Batch

Read = Callable[[Sequence[int]], Batch]
"""Positions of a stream -> the examples there."""


def tensor_stream(x_0: Tensor, conditions: Sequence[str] | None = None, seed: int = 0) -> Read:
    """Data that are at hand as an endless stream of shuffles, for a loop of one's own.

    Args:
        x_0: ``(count, *shape)``.
        conditions: one text a datum; none by default.
        seed: of the shuffles and of the training noise.

    Returns:
        Positions of the stream -> batch.
    """
    shuffles = Shuffles(len(x_0), hashed_seed("tensor", seed))

    def read(positions: Sequence[int]) -> Batch:
        chosen = shuffles.at(positions)
        texts = [conditions[i] for i in chosen] if conditions else [""] * len(chosen)
        return Batch(x_0[chosen], texts, place_seeds("noise", seed, positions), torch.ones(len(chosen)))

    return read


class AcceptedStream:
    """First a condition, then one of its accepted trajectories: conditions count alike, whatever each has accepted.

    Attributes:
        selection: what was accepted.

    Args:
        pool_round: a complete round.
        acceptance: the rule.
        reward: name of the reward to accept by; the first in the pool by default.
        state: index N_I of the states to stream, or "x_0".
        seed: of the run.
        drop_without_signal: leave out conditions whose rewards are all equal.

    Raises:
        ValueError: if nothing is accepted.
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
        self._field = "x_0" if state == "x_0" or state == 0 else f"states/{state}"
        self._shuffles: dict[tuple[str, int, int], Shuffles] = {}

    def read(self, positions: Sequence[int]) -> Batch:
        """The examples at positions of the stream."""
        indices, weights = zip(*map(self._member, positions), strict=True)
        data = self._round.read(indices, ["condition", self._field])
        texts = [self._round.conditions[i] for i in data["condition"].tolist()]
        x = data[tuple(self._field.split("/"))]
        return Batch(x, texts, place_seeds("noise", self.seed, positions), torch.tensor(weights))

    def batches(self, batch_size: int, steps: int) -> Iterator[Batch]:
        """The first ``steps`` batches of the stream, for a loop of one's own."""
        return (self.read(range(step * batch_size, (step + 1) * batch_size)) for step in range(steps))

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
