"""Categorical fields: atom types, layout classes (Eq. 3 and 7)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from graft_lightning.processes.noise import Noise
from graft_lightning.processes.outputs import Classes, Output
from graft_lightning.processes.paths.base import LossSettings, Noised, Path, Shape, mean_over_real
from graft_lightning.processes.schedules import Schedule
from graft_lightning.processes.transitions import ClassTransition, real_classes, sample_classes
from graft_lightning.types import broadcast


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
        return survival * one_hot(c_s, len(self.target)) + (1 - survival) * self.target

    def likelihood(self, c_t: Tensor) -> Tensor:
        """q(c_t | c_s) of the given c_t for every c_s, ``(*c_t.shape, classes)``."""
        survival = broadcast(self.survival, c_t).unsqueeze(-1)
        return survival * one_hot(c_t, len(self.target)) + (1 - survival) * self.target[c_t].unsqueeze(-1)


class CategoricalPath(Path[Classes]):
    """A class survives, or is drawn anew from the target.

    Args:
        schedule: beta_t, the probability that c_0 survives to t, is alpha_t^2 of this schedule.
        classes: the number of classes; with an absorbing target, the mask is one of them (the last).
        target: "uniform" over the classes, "absorbing" into the last, or probabilities.
    """

    discrete = True

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
        self._targets: dict[torch.device, Tensor] = {}

    def survival(self, t: Tensor) -> Tensor:
        """beta_t, float64."""
        alpha_t, _ = self.schedule.coefficients(t)
        return alpha_t**2

    def kernel(self, s: Tensor, t: Tensor) -> CategoricalKernel:
        beta_s = self.survival(s)
        ratio = torch.where(beta_s > 0, self.survival(t) / beta_s.clamp_min(1e-300), torch.zeros_like(beta_s))
        return CategoricalKernel(ratio, self._target_on(ratio.device))

    def prior(self, shape: Shape, noise: Noise, mask: Tensor | None = None) -> Tensor:
        uniform = noise.uniform(*shape)
        target = self._target_on(uniform.device)
        return real_classes(sample_classes(target.expand(*uniform.shape, -1), uniform), mask)

    def diffuse(self, x_s: Tensor, s: float, t: Tensor, noise: Noise, mask: Tensor | None = None) -> Noised:
        kernel = self.kernel(torch.full_like(t, s), t)
        uniform = noise.uniform(*x_s.shape[1:])
        return Noised(x_s, real_classes(sample_classes(kernel.probabilities(x_s), uniform), mask), uniform, s, t, mask)

    def predict(
        self,
        raw: Tensor,
        x_t: Tensor,
        t: float,
        output: Output,
        clip: float | None = None,
        origin: float = 0.0,
    ) -> Classes:
        return Classes(raw.double().softmax(-1), origin)

    def data_of(self, prediction: Classes, mask: Tensor | None = None) -> Tensor:
        return real_classes(prediction.probabilities.argmax(-1), mask)

    def transition(
        self,
        x_t: Tensor,
        prediction: Classes,
        t: float,
        t_next: float,
        mask: Tensor | None = None,
        eta: float = 1.0,
    ) -> ClassTransition:
        """Of c_s | c_t, with the class at the predicted level summed out (Eq. 3 reversed)."""
        s, high = (torch.full((1,), level, dtype=torch.float64, device=x_t.device) for level in (t_next, t))
        return ClassTransition(self.posterior(x_t, prediction.probabilities, s, high, prediction.level), mask)

    def loss(self, raw: Tensor, noised: Noised, output: Output, settings: LossSettings) -> Tensor:
        """Eq. 7."""
        if settings.categorical_target == "c_s" or noised.s == 0:
            error = torch.nn.functional.cross_entropy(raw.movedim(-1, 1), noised.x_s, reduction="none")
        else:
            s = torch.full_like(noised.t, noised.s)
            posterior = self.posterior(noised.x_t, raw.softmax(-1), s, noised.t)
            likelihood = posterior.gather(-1, noised.x_s.unsqueeze(-1)).squeeze(-1)
            error = -likelihood.clamp_min(1e-12).log()
        return mean_over_real(error, noised.mask)

    def posterior(self, c_t: Tensor, p_0: Tensor, s: Tensor, t: Tensor, origin: float = 0.0) -> Tensor:
        """sum_c0 p_0(c_0) q(c_s | c_t, c_0) for every c_s.

        Args:
            c_t: classes at level t, int64 ``(batch, *shape)``.
            p_0: probabilities of the clean class, ``(batch, *shape, classes)``; of the class at ``origin`` where that
                is given.
            s: target level ``(batch,)`` or ``(1,)``, not below ``origin``.
            t: level of ``c_t``, like ``s``.
            origin: the level whose class ``p_0`` is about; 0 is the data.

        Returns:
            Probabilities ``(batch, *shape, classes)``, float64.
        """
        forward = self.kernel(s, t).likelihood(c_t)  # q(c_t | c_s), over c_s
        start = self.survival(torch.full_like(s, origin))
        beta_s = broadcast(self.survival(s) / start, c_t).unsqueeze(-1)
        beta_t = broadcast(self.survival(t) / start, c_t).unsqueeze(-1)
        target = self._target_on(p_0.device)
        evidence = beta_t * one_hot(c_t, self.classes) + (1 - beta_t) * target[c_t].unsqueeze(
            -1
        )  # q(c_t | c_0), over c_0
        share = torch.where(evidence > 0, p_0.double() / evidence.clamp_min(1e-300), torch.zeros_like(evidence))
        # q(c_s | c_t, c_0) = q(c_t | c_s) q(c_s | c_0) / q(c_t | c_0), summed over c_0 with weight p_0
        prior = beta_s * share + (1 - beta_s) * target * share.sum(-1, keepdim=True)
        posterior = forward * prior
        return posterior / posterior.sum(-1, keepdim=True).clamp_min(1e-300)

    def _target_on(self, device: torch.device) -> Tensor:
        if device not in self._targets:
            self._targets[device] = self.target.to(device)
        return self._targets[device]


def one_hot(classes: Tensor, count: int) -> Tensor:
    """True where the last axis is the class, bool ``(*classes.shape, count)``.

    torch's own reads the least and the greatest class back before it goes on, unless they are on a GPU.
    """
    return classes.unsqueeze(-1) == torch.arange(count, device=classes.device)
