"""Diversity of samples within a condition."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from graft_lightning.processes.noise import hashed_seed
from graft_lightning.rejection.codec import Codec


class Diversity(Metric):
    """Mean over conditions of the mean Euclidean distance between two different samples of one condition.

    Conditions with a single sample have no distance and are left out; NaN if all are.

    Args:
        codec: whose `Codec.numbers` are compared, such as the reference of the domain; by default all numbers of a
            tensor, or of a mapping of tensors, without padding.
        arguments: of `torchmetrics.Metric`.
    """

    higher_is_better = True
    full_state_update = False
    samples: list[Tensor]
    conditions: list[Tensor]

    def __init__(self, codec: Codec | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.codec = codec or Codec()
        self.add_state("samples", default=[], dist_reduce_fx="cat")
        self.add_state("conditions", default=[], dist_reduce_fx="cat")

    def update(self, samples: Any, conditions: Sequence[str]) -> None:
        """Adds samples, each under its condition.

        Raises:
            TypeError: if the codec has no numbers for them.
        """
        numbers = self.codec.numbers(samples)
        if numbers is None:
            raise TypeError(
                f"Diversity: samples are {type(samples).__name__}, of which {type(self.codec).__name__}.numbers() "
                "gives none to compare; set codec to the reference, or to another codec that does"
            )
        self.samples.append(numbers.detach().float())
        ids = [hashed_seed(text) for text in conditions]
        self.conditions.append(torch.tensor(ids, dtype=torch.int64, device=numbers.device))

    def compute(self) -> Tensor:
        """The mean distance, a scalar."""
        samples, conditions = dim_zero_cat(self.samples), dim_zero_cat(self.conditions)
        distances = [mean_pairwise_distance(samples[conditions == condition]) for condition in conditions.unique()]
        return torch.stack(distances).nanmean() if distances else torch.tensor(torch.nan)


def mean_pairwise_distance(samples: Tensor) -> Tensor:
    """Mean Euclidean distance between two different rows of ``(batch, *shape)``; NaN for fewer than two."""
    flat = samples.flatten(1).double()
    count = len(flat)
    if count < 2:
        return torch.tensor(torch.nan, device=flat.device, dtype=torch.float64)
    return torch.cdist(flat, flat).sum() / (count * (count - 1))
