"""Distributions of the levels that a model is trained at."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from graft_lightning.processes.noise import Noise
from graft_lightning.processes.schedules import Schedule

Levels = tuple[float, ...]
"""The level of every field, in the order of the process's paths."""


class TimeDistribution(ABC):
    """Levels of training examples, restricted to an interval."""

    @abstractmethod
    def draw(self, noise: Noise, low: float, high: float, schedule: Schedule) -> Tensor:
        """Levels in (low, high], float64 ``(batch,)``.

        Or ``(batch, fields)``, in the order of the paths, where fields stand at levels of their own: the highest lies
        in that interval, and none below ``low``.

        Args:
            noise: of the examples.
            low: excluded lower end.
            high: included upper end.
            schedule: decides whether levels are integers.
        """

    def covers(self, calls: Sequence[Levels]) -> bool:
        """Whether a sampler may call a model that was trained so: here, if it moves all fields together."""
        return all(len(set(call)) == 1 for call in calls)


class UniformTime(TimeDistribution):
    """Every level alike: DDPM, Stable Diffusion and plain flow matching."""

    def draw(self, noise: Noise, low: float, high: float, schedule: Schedule) -> Tensor:
        uniform = noise.uniform().double()
        if schedule.discrete:
            return torch.floor(uniform * (high - low)).clamp_max(high - low - 1) + low + 1
        return high - uniform * (high - low)


class LogitNormalTime(TimeDistribution):
    """logit(t) ~ N(mean, std^2): Stable Diffusion 3 (arXiv 2403.03206); continuous levels in [0, 1]."""

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        self.mean, self.std = mean, std

    def draw(self, noise: Noise, low: float, high: float, schedule: Schedule) -> Tensor:
        if schedule.discrete:
            raise ValueError("a logit-normal distribution of levels needs a continuous schedule")
        below, above = _normal_ends(low, high, self.mean, self.std)
        quantile = below + (1 - noise.uniform().double()) * (above - below)
        return torch.sigmoid(torch.special.ndtri(quantile) * self.std + self.mean).clamp(low, high)


@lru_cache
def _normal_ends(low: float, high: float, mean: float, std: float) -> tuple[float, float]:
    """The distribution function at both ends, on the host."""
    below, above = torch.special.ndtr((torch.tensor([low, high], dtype=torch.float64).logit() - mean) / std).tolist()
    return below, above


class VisitedLevels(TimeDistribution):
    """The levels at which a sampler calls its model, each call alike: what is trained is exactly what is asked for.

    Where the sampler moves one field at a time these are the very combinations of levels that it visits.

    Args:
        calls: of the sampler, by `Sampler.training_levels`.
    """

    def __init__(self, calls: Sequence[Levels]) -> None:
        self._calls = list(calls)
        self._tables: dict[tuple[float, float, torch.device], Tensor] = {}

    def draw(self, noise: Noise, low: float, high: float, schedule: Schedule) -> Tensor:
        uniform = noise.uniform().double()
        key = (low, high, uniform.device)
        if key not in self._tables:
            self._tables[key] = self._table(low, high).to(uniform.device)
        table = self._tables[key]
        return table[(uniform * len(table)).long().clamp_max(len(table) - 1)]

    def covers(self, calls: Sequence[Levels]) -> bool:
        return super().covers(calls) or not super().covers(self._calls)

    def _table(self, low: float, high: float) -> Tensor:
        """The calls whose highest level lies in (low, high]: ``(calls,)``, or ``(calls, fields)``."""
        table = torch.tensor([call for call in self._calls if low < max(call) <= high], dtype=torch.float64)
        if not len(table):
            raise ValueError(f"no level that the sampler visits lies in ({low:g}, {high:g}]")
        # a hand-off off the grid is put on it when the model is sampled: no field is then asked for below it
        table = table.clamp_min(low)
        return table[:, 0] if bool((table == table[:, :1]).all()) else table
