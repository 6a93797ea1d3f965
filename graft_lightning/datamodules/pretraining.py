"""The data of pre-training: a domain's examples, streamed."""

from typing import Any

import torch

from graft_lightning.datamodules.stream import Positions, noise_seeds
from graft_lightning.datamodules.streamed import StreamedExamples
from graft_lightning.domains.base import Examples
from graft_lightning.ranges import Natural
from graft_lightning.types import Batch


class PretrainingExamples(StreamedExamples):
    """Streams training examples of a domain.

    Args:
        examples: the source.
        batch_size: examples per process and step.
        steps_per_epoch: steps that count as an epoch.
        start: position of the stream at which to begin; further pre-training continues where the reference's ended.
        examples_seed: of the examples; the run's by default. Set it to pre-train further on the data of another run.
        evaluation: conditions of samples and the run's seed; arguments of `HeldOutConditions`.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int = 128,
        steps_per_epoch: int = 1000,
        start: int = 0,
        examples_seed: Natural | None = None,
        **evaluation: Any,
    ) -> None:
        super().__init__(**evaluation)
        self.examples = examples
        self.batch_size, self.steps_per_epoch, self.start = batch_size, steps_per_epoch, start
        self.examples_seed = self.seed if examples_seed is None else examples_seed

    def read(self, positions: Positions) -> Batch:
        """The examples at positions of the stream."""
        x, texts = self.examples.batch([self.start + position for position in positions], self.examples_seed)
        return Batch(x, texts, noise_seeds(self.seed, positions), torch.ones(len(texts)))
