"""Potentials of Feynman-Kac steering: what a trajectory's weight is multiplied by, from the rewards of predictions.

Whatever they are on the way, what is used of them is divided out at the end, so that a finished sample has had
exp(r(x_0) / temperature) in all (arXiv 2501.06848).
"""

from typing import Literal

import torch
from torch import Tensor

Potential = Literal["difference", "max", "sum"]


class Potentials:
    """The potentials of groups of particles, logarithms, ``(groups, particles)``, float64.

    Args:
        kind: "difference", of the reward from the last one; "max", the largest reward so far; "sum", of all so far.
        temperature: that rewards are divided by.
        groups: of particles.
        particles: in a group.
    """

    def __init__(self, kind: Potential, temperature: float, groups: int, particles: int) -> None:
        self.kind, self.temperature = kind, temperature
        self._used = torch.zeros(groups, particles, dtype=torch.float64)
        self._so_far: Tensor | None = None

    def on_the_way(self, rewards: Tensor) -> Tensor:
        """The potential of predictions with these rewards; one that cannot be judged counts as its group's worst."""
        found = _judged(rewards.double())
        if self._so_far is None:
            potential = self._so_far = found
        elif self.kind == "difference":
            potential, self._so_far = found - self._so_far, found
        else:
            combined = torch.maximum(self._so_far, found) if self.kind == "max" else self._so_far + found
            potential = self._so_far = combined
        potential = potential / self.temperature
        self._used = self._used + potential
        return potential

    def at_the_end(self, rewards: Tensor) -> Tensor:
        """The potential of finished samples: exp(r / temperature) over what was used; 0 of what cannot be judged."""
        found = rewards.double()
        return torch.where(found.isfinite(), found / self.temperature - self._used, -torch.inf)

    def chosen(self, rows: Tensor) -> None:
        """Gives the particles the past of those that they come from, positions in their group like the potentials."""
        self._used = self._used.gather(1, rows)
        if self._so_far is not None:
            self._so_far = self._so_far.gather(1, rows)


def _judged(rewards: Tensor) -> Tensor:
    finite = rewards.isfinite()
    worst = torch.where(finite, rewards, torch.inf).amin(1, keepdim=True)
    return torch.where(finite, rewards, torch.where(worst.isfinite(), worst, 0.0))


def systematic(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """Systematic resampling: of n particles with weights w each gives floor(n w) or ceil(n w) of the next ones.

    Args:
        log_weights: ``(groups, n)``, of any sum, not all of them -inf.
        uniform: one number in [0, 1) a group, ``(groups, 1)``.

    Returns:
        Positions in the group, int64 ``(groups, n)``, increasing.
    """
    count = log_weights.shape[1]
    cumulative = log_weights.softmax(1).cumsum(1)
    places = (torch.arange(count, dtype=torch.float64) + uniform) / count * cumulative[:, -1:]
    # rounding may leave the last place at the very end: it is still a particle's that has a weight
    last = torch.where(log_weights > -torch.inf, torch.arange(count), -1).amax(1, keepdim=True)
    return torch.minimum(torch.searchsorted(cumulative, places, right=True), last)


def effective(log_weights: Tensor) -> Tensor:
    """The effective number of particles, (sum w)^2 / sum w^2, ``(groups,)``."""
    return 1 / log_weights.softmax(1).square().sum(1)
