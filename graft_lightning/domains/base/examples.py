"""Sources of training examples."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any


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
