"""Sources of training examples."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from graft_lightning.processes.noise import hashed_seed


class Examples(ABC):
    """Training examples for pre-training, addressed by position in an endless stream.

    Position k gives the same example whenever it is asked for, so that a stream can be resumed anywhere.
    """

    @abstractmethod
    def batch(self, positions: Sequence[int], seed: int) -> tuple[Any, list[str]]:
        """States x_0 ``(batch, *shape)`` and their conditions.

        Args:
            positions: places in the stream.
            seed: of the run.
        """


@lru_cache(maxsize=8)
def shuffled(purpose: str, length: int, seed: int, turn: int) -> list[int]:
    """Shuffle ``turn`` of an endless sequence of shuffles of ``range(length)``.

    It is kept: a batch touches two neighbours at most.

    Args:
        purpose: each has shuffles of its own.
        length: of the data.
        seed: of the run.
        turn: how many shuffles came before.
    """
    generator = torch.Generator().manual_seed(hashed_seed(purpose, seed, turn))
    return torch.randperm(length, generator=generator).tolist()
