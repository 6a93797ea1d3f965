"""Measures of a model itself, beside the scores of its samples."""

from abc import ABC, abstractmethod

import lightning as L
import torch

from graft_lightning.modules.counting import counted_operations
from graft_lightning.modules.sampled import SampledModule
from graft_lightning.processes.noise import trajectory_seeds
from graft_lightning.statistics import Interval, without_interval
from graft_lightning.types import Draws


class Measure(ABC):
    """Something that an evaluation says of the model, under names of its own."""

    @abstractmethod
    def __call__(self, trainer: L.Trainer, module: SampledModule) -> dict[str, Interval]:
        """Figures by name. Called on all processes alike, without gradients."""


class FlopsPerSample(Measure):
    """Floating-point operations of one sample, as `counted_operations` counts them: ``gigaflops``.

    Args:
        samples: in the batch that is counted.
    """

    def __init__(self, samples: int = 8) -> None:
        if samples < 1:
            raise ValueError(f"samples={samples}; at least 1 is counted")
        self.samples = samples

    def __call__(self, trainer: L.Trainer, module: SampledModule) -> dict[str, Interval]:
        texts = [""] * self.samples
        numbers = range(self.samples)
        draws = Draws(texts, torch.tensor(numbers), trajectory_seeds(0, 0, texts, numbers))
        with counted_operations() as counter:
            module.sample(draws)
        return {"gigaflops": without_interval(counter.get_total_flops() / self.samples / 1e9)}
