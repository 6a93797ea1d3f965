"""Paths: the Markov kernel of one field between any two noise levels (Eq. 1 to 3), and its reversal."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from graft_lightning.processes.schedules import Schedule
from graft_lightning.types import broadcast


@dataclass(frozen=True)
class GaussianKernel:
    """x_t | x_s ~ N(alpha x_s, sigma^2), Eq. 2; ``(batch,)`` each, float64."""

    alpha: Tensor
    sigma: Tensor


@dataclass(frozen=True)
class CategoricalKernel:
    """q(c_t | c_s) = survival delta(c_s) + (1 - survival) target, Eq. 3.

    Attributes:
        survival: beta_ts ``(batch,)``.
        target: pi ``(classes,)``.
    """

    survival: Tensor
    target: Tensor

    def probabilities(self, c_s: Tensor) -> Tensor:
        """q(c_t | c_s) for every c_t, ``(*c_s.shape, classes)``."""
        survival = broadcast(self.survival, c_s).unsqueeze(-1)
        one_hot = torch.nn.functional.one_hot(c_s, len(self.target))
        return survival * one_hot + (1 - survival) * self.target

    def likelihood(self, c_t: Tensor) -> Tensor:
        """q(c_t | c_s) of the given c_t for every c_s, ``(*c_t.shape, classes)``."""
        survival = broadcast(self.survival, c_t).unsqueeze(-1)
        one_hot = torch.nn.functional.one_hot(c_t, len(self.target))
        return survival * one_hot + (1 - survival) * self.target[c_t].unsqueeze(-1)


class Path(ABC):
    """One field's noise process.

    Args:
        schedule: signal and noise by level.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    @abstractmethod
    def kernel(self, s: Tensor, t: Tensor) -> GaussianKernel | CategoricalKernel:
        """The law of the state at level t given the state at level s <= t, both ``(batch,)``."""


class GaussianPath(Path):
    """Eq. 1 and 2: images, latents, boxes, coordinates."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t), float64, the shape of ``t``."""
        return self.schedule.alpha_sigma(t)

    def kernel(self, s: Tensor, t: Tensor) -> GaussianKernel:
        """Eq. 2.

        Raises:
            ValueError: if t < s somewhere, or the signal has vanished at s (alpha_s = 0).
        """
        if (torch.as_tensor(t) < torch.as_tensor(s)).any():
            raise ValueError(f"a kernel goes towards noise: t={t} must not lie below s={s}")
        alpha_s, sigma_s = self.alpha_sigma(s)
        alpha_t, sigma_t = self.alpha_sigma(t)
        if (alpha_s == 0).any():
            raise ValueError(f"nothing is left of the signal at s={s}: no kernel starts there")
        alpha = alpha_t / alpha_s
        return GaussianKernel(alpha, (sigma_t**2 - alpha**2 * sigma_s**2).clamp_min(0).sqrt())

    def project(self, noise: Tensor, mask: Tensor | None = None) -> Tensor:
        """Noise on the space where the field lives: the whole space here, zero where ``mask`` has padding.

        Args:
            noise: ``(batch, *shape)``.
            mask: bool ``(batch, n)``, n the first axis of the shape.
        """
        return noise if mask is None else noise * _weight(mask, noise)


class CentredGaussianPath(GaussianPath):
    """Point clouds ``(batch, n, d)`` whose mean over the real points is zero (EDM, arXiv 2203.17003).

    Noise is projected on that subspace, where it is standard normal; the kernel and its reversal are those of Eq. 2.
    """

    def project(self, noise: Tensor, mask: Tensor | None = None) -> Tensor:
        """Noise less its mean over the real points, zero elsewhere. Arguments as in `GaussianPath.project`."""
        weight = noise.new_ones(noise.shape[:2] + (1,) * (noise.ndim - 2)) if mask is None else _weight(mask, noise)
        mean = (noise * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
        return (noise - mean) * weight


def _weight(mask: Tensor, like: Tensor) -> Tensor:
    return broadcast(mask, like).to(like.dtype)


class CategoricalPath(Path):
    """Eq. 3: atom types, layout classes.

    Args:
        schedule: beta_t, the probability that c_0 survives to t, is alpha_t^2 of this schedule.
        classes: the number of classes; with an absorbing target, the mask is one of them (the last).
        target: "uniform" over the classes, "absorbing" into the last, or probabilities.
    """

    def __init__(
        self, schedule: Schedule, classes: int, target: Literal["uniform", "absorbing"] | list[float] = "uniform"
    ) -> None:
        super().__init__(schedule)
        if classes < 2:
            raise ValueError(f"classes={classes}; a categorical field needs at least 2")
        self.classes = classes
        if target == "uniform":
            self.target = torch.full((classes,), 1 / classes, dtype=torch.float64)
        elif target == "absorbing":
            self.target = torch.nn.functional.one_hot(torch.tensor(classes - 1), classes).double()
        else:
            self.target = torch.tensor(target, dtype=torch.float64)
            if len(self.target) != classes or not torch.isclose(self.target.sum(), torch.tensor(1.0).double()):
                raise ValueError(f"target={target}; it must hold {classes} probabilities that sum to 1")

    def survival(self, t: Tensor) -> Tensor:
        """beta_t, float64."""
        alpha_t, _ = self.schedule.alpha_sigma(t)
        return alpha_t**2

    def kernel(self, s: Tensor, t: Tensor) -> CategoricalKernel:
        beta_s = self.survival(s)
        ratio = torch.where(beta_s > 0, self.survival(t) / beta_s.clamp_min(1e-300), torch.zeros_like(beta_s))
        return CategoricalKernel(ratio, self.target.to(ratio.device))

    def posterior(self, c_t: Tensor, p_0: Tensor, s: Tensor, t: Tensor, origin: float = 0.0) -> Tensor:
        """sum_c0 p_0(c_0) q(c_s | c_t, c_0) for every c_s.

        Args:
            c_t: classes at level t, int64 ``(batch, *shape)``.
            p_0: probabilities of the clean class, ``(batch, *shape, classes)``; of the class at ``origin`` where that
                is given.
            s: target level ``(batch,)``, not below ``origin``.
            t: level of ``c_t`` ``(batch,)``.
            origin: the level whose class ``p_0`` is about; 0 is the data.

        Returns:
            Probabilities ``(batch, *shape, classes)``, float64.
        """
        forward = self.kernel(s, t).likelihood(c_t)  # q(c_t | c_s), over c_s
        start = self.survival(torch.full_like(s, origin))
        beta_s = broadcast(self.survival(s) / start, c_t).unsqueeze(-1)
        beta_t = broadcast(self.survival(t) / start, c_t).unsqueeze(-1)
        target = self.target.to(p_0.device)
        one_hot = torch.nn.functional.one_hot(c_t, self.classes)
        evidence = beta_t * one_hot + (1 - beta_t) * target[c_t].unsqueeze(-1)  # q(c_t | c_0), over c_0
        share = torch.where(evidence > 0, p_0.double() / evidence.clamp_min(1e-300), torch.zeros_like(evidence))
        # q(c_s | c_t, c_0) = q(c_t | c_s) q(c_s | c_0) / q(c_t | c_0), summed over c_0 with weight p_0
        prior = beta_s * share + (1 - beta_s) * target * share.sum(-1, keepdim=True)
        posterior = forward * prior
        return posterior / posterior.sum(-1, keepdim=True).clamp_min(1e-300)


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
