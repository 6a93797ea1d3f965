"""Transitions: the distribution that one step of a sampler draws a field from, with its density.

What a sampler draws by, a policy gradient differentiates: both take the distribution from here.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.noise import Noise
from graft_lightning.types import State, broadcast

LEAST = 1e-12
"""Probabilities of classes below are taken as this, so that no logarithm is infinite."""


class Transition(ABC):
    """The distribution of a field after a step, one for each sample of a batch."""

    @property
    @abstractmethod
    def freedom(self) -> Tensor:
        """How many numbers, or classes, of each sample are drawn, ``(batch,)``; padding is not."""

    @property
    def random(self) -> bool:
        """Whether anything is drawn; what is not has no density."""
        return True

    @abstractmethod
    def draw(self, noise: Noise) -> Tensor:
        """A draw, ``(batch, *shape)``."""

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """The logarithm of the density, or probability, of all that is drawn at once, ``(batch,)``.

        Args:
            x: the field after the step, ``(batch, *shape)``.
        """

    @abstractmethod
    def log_ratio(self, other: "Transition", x: Tensor) -> Tensor:
        """``log_density`` less that of another model's step from the same state, ``(batch,)``, without cancellation."""

    @abstractmethod
    def divergence(self, other: "Transition") -> Tensor:
        """The Kullback-Leibler divergence from another model's step from the same state, in nats, ``(batch,)``."""


@dataclass(frozen=True)
class GaussianTransition(Transition):
    """N(mean, std^2), the same std for all, on the space that the field lives in.

    Attributes:
        mean: ``(batch, *shape)``.
        std: 0 where nothing is drawn.
        project: takes noise into that space, zero at padding.
        dimensions: of that space, ``(batch,)``, told by a tensor like the mean.
    """

    mean: Tensor
    std: float
    project: Callable[[Tensor], Tensor]
    dimensions: Callable[[Tensor], Tensor]

    @property
    def freedom(self) -> Tensor:
        return self.dimensions(self.mean)

    @property
    def random(self) -> bool:
        return self.std > 0

    def draw(self, noise: Noise) -> Tensor:
        if self.std == 0:
            return self.mean
        return self.mean + self.std * self.project(noise.normal(*self.mean.shape[1:]))

    def log_density(self, x: Tensor) -> Tensor:
        off = self._product(x - self.mean, x - self.mean)
        return -off / (2 * self.std**2) - self.freedom * (math.log(self.std) + math.log(math.tau) / 2)

    def log_ratio(self, other: Transition, x: Tensor) -> Tensor:
        assert isinstance(other, GaussianTransition)
        return self._product(self.mean - other.mean, 2 * x - self.mean - other.mean) / (2 * self.std**2)

    def divergence(self, other: Transition) -> Tensor:
        assert isinstance(other, GaussianTransition)
        apart = self.mean - other.mean
        return self._product(apart, apart) / (2 * self.std**2)

    def _product(self, one: Tensor, other: Tensor) -> Tensor:
        """The inner product of each sample, in the space that is drawn from: whatever else there is, has no density."""
        return (self.project(one).double() * self.project(other).double()).flatten(1).sum(1)


@dataclass(frozen=True)
class ClassTransition(Transition):
    """Independent classes.

    Attributes:
        probabilities: ``(batch, *shape, classes)``, float64.
        mask: which elements are real, bool ``(batch, n)``; None where all are.
    """

    probabilities: Tensor
    mask: Tensor | None = None

    @property
    def freedom(self) -> Tensor:
        return self._over(torch.ones_like(self.probabilities[..., 0]))

    def draw(self, noise: Noise) -> Tensor:
        classes = sample_classes(self.probabilities, noise.uniform(*self.probabilities.shape[1:-1]))
        return real_classes(classes, self.mask)

    def log_density(self, x: Tensor) -> Tensor:
        return self._over(self._log_of(x))

    def log_ratio(self, other: Transition, x: Tensor) -> Tensor:
        assert isinstance(other, ClassTransition)
        return self._over(self._log_of(x) - other._log_of(x))

    def divergence(self, other: Transition) -> Tensor:
        assert isinstance(other, ClassTransition)
        logs = self.probabilities.clamp_min(LEAST).log() - other.probabilities.clamp_min(LEAST).log()
        return self._over((self.probabilities * logs).sum(-1))

    def _log_of(self, x: Tensor) -> Tensor:
        return self.probabilities.gather(-1, x.unsqueeze(-1)).squeeze(-1).clamp_min(LEAST).log()

    def _over(self, values: Tensor) -> Tensor:
        real = values if self.mask is None else values * broadcast(self.mask, values)
        return real.flatten(1).sum(1)


def log_density(transitions: Mapping[str, Transition], x: State) -> Tensor:
    """Of a whole state after a step, ``(batch,)``: fields are drawn one given the other, so that densities multiply.

    Args:
        transitions: by field, as `Sampler.transitions` gives them.
        x: the state after the step.
    """
    drawn: Any = [law.log_density(x[name]) for name, law in transitions.items() if law.random]
    return torch.stack(drawn).sum(0)


def real_classes(classes: Tensor, mask: Tensor | None) -> Tensor:
    """The classes, 0 where ``mask`` has padding."""
    return classes if mask is None else classes * broadcast(mask, classes)


def sample_classes(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Classes by inversion of the cumulative probabilities.

    Args:
        probabilities: ``(*shape, classes)``.
        uniform: ``(*shape)`` in [0, 1).

    Returns:
        int64 ``(*shape)``.
    """
    cumulative = probabilities.cumsum(-1)
    scaled = uniform.to(cumulative.dtype) * cumulative[..., -1]
    return (cumulative <= scaled.unsqueeze(-1)).sum(-1).clamp_max(probabilities.shape[-1] - 1)
