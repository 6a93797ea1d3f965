"""A round whose rewards say nothing: the placebo of objectives that go by rewards, and not by what a rule accepts."""

from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.noise import hashed_seed, shuffled
from graft_lightning.rejection.pool import Round


class ShuffledRewards:
    """A round in which the draws of each condition have exchanged their rewards at random; else it is the same.

    An objective then weighs, ranks and pairs as it always does, with steps of the same size and noise, and in the mean
    prefers no draw.

    Args:
        pool_round: a complete round.
        seed: of the exchange, with the round and the condition.
    """

    def __init__(self, pool_round: Round, seed: int) -> None:
        self._round, self._seed = pool_round, seed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._round, name)

    def __len__(self) -> int:
        return len(self._round)

    def rewards(self, name: str) -> Tensor:
        """The scores by ``name``, exchanged, float32 ``(conditions, draws)``."""
        found = self._round.rewards(name)
        seeds = [hashed_seed("placebo", self._seed, self._round.index, row) for row in range(len(found))]
        return torch.stack([row[shuffled(len(row), seed)] for row, seed in zip(found, seeds, strict=True)])
