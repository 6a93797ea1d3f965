"""A reward spread over processes."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch
from torch import Tensor

from graft_lightning.ranges import Natural
from graft_lightning.rejection.filling import GUARD, refuse_import_by_a_process
from graft_lightning.rejection.reward import Reward, RewardError, score


class ParallelReward(Reward):
    """Scores batches in several processes, for rewards that spend their time in Python on the CPU.

    The processes are started by the first large batch and live as long as this object; each needs some seconds, once,
    to import what the reward needs. Scores are those of the reward itself, in the same order.

    Args:
        reward: pointwise, on the CPU.
        workers: processes; under DDP, of every rank.
        at_least: smaller batches are scored here.
    """

    def __init__(self, reward: Reward, workers: int = 2, at_least: Natural = 256) -> None:
        if reward.groupwise:
            raise ValueError(f"reward: {reward.name} compares samples with each other, so that a batch cannot be cut")
        if workers < 1:
            raise ValueError(f"workers={workers}; at least one process is needed")
        self.reward, self.workers, self.at_least = reward, workers, at_least
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        if len(conditions) < self.at_least:
            return score(self.reward, samples, conditions)
        refuse_import_by_a_process()
        if self._pool is None:
            # Not fork: torch may hold threads, and CUDA a context, that do not survive it.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context, initializer=torch.set_num_threads, initargs=(1,))
        size = -(-len(conditions) // self.workers)
        pieces = [slice(start, start + size) for start in range(0, len(conditions), size)]
        found = [
            self._pool.submit(score, self.reward, _part(samples, piece), list(conditions[piece])) for piece in pieces
        ]
        try:
            return torch.cat([future.result() for future in found])
        except BrokenProcessPool as error:
            self._pool = None
            raise RewardError(
                f"reward {self.name}: one of its {self.workers} processes has ended, which says why above, or was "
                f"killed for its memory; {GUARD}"
            ) from error

    @property
    def name(self) -> str:
        return self.reward.name

    def apart_for(self, count: int) -> bool:
        return count >= self.at_least

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None}


def _part(samples: Any, piece: slice) -> Any:
    """Some of the samples, on the CPU: of tensors only what is sent, not the whole storage behind a view."""
    if isinstance(samples, dict):
        return {name: _part(values, piece) for name, values in samples.items()}
    found = samples[piece]
    return found.detach().cpu().clone() if hasattr(found, "detach") else found
