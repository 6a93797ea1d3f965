"""Weightings lambda(t) of the training loss, in units of eps (Eq. 6).

Where a loss spends itself decides what a model learns: the weighting is a choice of its own, beside the objective.

Where a schedule ends without signal (alpha_T = 0), x_t determines eps whatever the network says of x_0, v or velocity:
an error of these is none of eps, and every weighting in units of eps would give the first sampling step no gradient.
There the weighting is the output's own, 1.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from graft_lightning.processes.outputs import Output, epsilon_factor

ROUNDING = torch.finfo(torch.float32).eps
"""A signal below this share of the noise is none: cos(pi / 2) is 6e-17 and not 0 in floating point."""


class Weighting(ABC):
    """lambda as a function of signal and noise."""

    @abstractmethod
    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """lambda(t) for errors of eps; finite, the shape of ``alpha``."""

    def for_output(self, output: Output, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The same weighting for squared errors of another output type, the shape of ``alpha``; 1 without signal.

        A weighting whose loss shall vanish where alpha = 0 must override this.
        """
        weight = self.weight(alpha, sigma) * epsilon_factor(output, alpha, sigma) ** 2
        if output == "epsilon":
            return weight
        return torch.where(alpha <= ROUNDING * sigma, 1.0, weight)


class Unit(Weighting):
    """lambda = 1: the plain eps-loss of DDPM."""

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.ones_like(alpha)


class MinSNR(Weighting):
    """min(SNR, gamma) / SNR (arXiv 2303.09556)."""

    def __init__(self, gamma: float = 5.0) -> None:
        if gamma <= 0:
            raise ValueError(f"gamma={gamma}; it must be positive")
        self.gamma = gamma

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (self.gamma * sigma**2 / alpha**2).clamp_max(1)  # 1 where alpha = 0


class CappedInverseAlpha(Weighting):
    """min(1 / alpha^2, cap): a v-loss, bounded; spends its steps at high noise, where words meet images."""

    def __init__(self, cap: float = 15.0) -> None:
        if cap < 1:
            raise ValueError(f"cap={cap}; below 1 it would cap every level")
        self.cap = cap

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (1 / alpha**2).clamp_max(self.cap)


class OwnOutput(Weighting):
    """Weight 1 on the squared error of the network's own output: a flow's regression of its velocity."""

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        raise TypeError("the weight of a network's own output has no value in units of eps; use for_output")

    def for_output(self, output: Output, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.ones_like(alpha)
