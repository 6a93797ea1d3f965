"""Gaussian fields: images, latents, boxes, coordinates (Eq. 1, 2, 6 and 6b)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from graft_lightning.processes.noise import Noise
from graft_lightning.processes.outputs import Output, Prediction, convert
from graft_lightning.processes.paths.base import (
    LossSettings,
    Noised,
    Path,
    Shape,
    mean_over_real,
    squared_error,
    weight_of,
)
from graft_lightning.processes.transitions import GaussianTransition
from graft_lightning.processes.weightings import OwnOutput, Unit
from graft_lightning.types import broadcast


@dataclass(frozen=True)
class GaussianKernel:
    """x_t | x_s ~ N(alpha x_s, sigma^2), Eq. 2; ``(batch,)`` each, float64."""

    alpha: Tensor
    sigma: Tensor


class GaussianPath(Path[Prediction]):
    """x_t = alpha_t x_0 + sigma_t eps, Eq. 1."""

    discrete = False

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
            raise ValueError(_nothing_left(s))
        alpha = alpha_t / alpha_s
        return GaussianKernel(alpha, (sigma_t**2 - alpha**2 * sigma_s**2).clamp_min(0).sqrt())

    def project(self, noise: Tensor, mask: Tensor | None = None) -> Tensor:
        """Noise on the space where the field lives: the whole space here, zero where ``mask`` has padding.

        Args:
            noise: ``(batch, *shape)``.
            mask: bool ``(batch, n)``, n the first axis of the shape.
        """
        return noise if mask is None else noise * weight_of(mask, noise)

    def prior(self, shape: Shape, noise: Noise, mask: Tensor | None = None) -> Tensor:
        # Data of unit variance have variance alpha^2 + sigma^2 here: N(0, I), where pipelines start too, also with a
        # table that keeps a little signal at T.
        return self.project(noise.normal(*shape), mask) * math.hypot(*self.schedule.at(self.schedule.t_max))

    def diffuse(self, x_s: Tensor, s: float, t: Tensor, noise: Noise, mask: Tensor | None = None) -> Noised:
        e = self.project(noise.normal(*x_s.shape[1:]), mask)
        kernel = self._from(s, *self.schedule.coefficients(t))
        return Noised(x_s, _combined(kernel.alpha, x_s, kernel.sigma, e), e, s, t, mask)

    def predict(
        self,
        raw: Tensor,
        x_t: Tensor,
        t: float,
        output: Output,
        clip: float | None = None,
        origin: float = 0.0,
    ) -> Prediction:
        return convert(output, raw, x_t, *self.schedule.at(t), clip)

    def data_of(self, prediction: Prediction, mask: Tensor | None = None) -> Tensor:
        return prediction.x_0 if mask is None else prediction.x_0 * weight_of(mask, prediction.x_0)

    def transition(
        self,
        x_t: Tensor,
        prediction: Prediction,
        t: float,
        t_next: float,
        mask: Tensor | None = None,
        eta: float = 1.0,
    ) -> GaussianTransition:
        """DDIM (arXiv 2010.02502); at eta = 1 the posterior q(x_s | x_t, x_0) at the predicted x_0."""
        alpha_s, sigma_s = self.schedule.at(t_next)
        std = self._step_std(t, t_next, eta)
        direction = math.sqrt(max(sigma_s**2 - std**2, 0.0))
        return self.gaussian(alpha_s * prediction.x_0 + direction * prediction.epsilon, std, mask)

    def gaussian(self, mean: Tensor, std: float, mask: Tensor | None = None) -> GaussianTransition:
        """N(mean, std^2) on the space where the field lives; arguments as of `project`."""
        return GaussianTransition(mean, std, partial(self.project, mask=mask), partial(self.dimensions, mask=mask))

    def dimensions(self, like: Tensor, mask: Tensor | None = None) -> Tensor:
        """The dimensions of the space where the field lives, ``(batch,)``.

        Args:
            like: ``(batch, *shape)``.
            mask: as in `project`.
        """
        points, each = like.shape[1], math.prod(like.shape[2:])
        real = torch.full((len(like),), points, device=like.device) if mask is None else mask.sum(1)
        return real * each

    def draws(self, t: float, t_next: float, eta: float = 1.0) -> bool:
        return self._step_std(t, t_next, eta) > 0

    def _step_std(self, t: float, t_next: float, eta: float) -> float:
        """Eta times the standard deviation of q(x_s | x_t, x_0)."""
        (alpha_s, sigma_s), (alpha_t, sigma_t) = self.schedule.at(t_next), self.schedule.at(t)
        if alpha_s == 0:
            raise ValueError(_nothing_left(t_next))
        sigma_ts = math.sqrt(max(sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2, 0.0))
        return eta * sigma_ts * sigma_s / sigma_t

    def transport(self, x_t: Tensor, predictions: Sequence[Prediction], t: float, t_next: float) -> Tensor:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self.schedule.at(t), self.schedule.at(t_next)
        scale_t, scale_s = alpha_t + sigma_t, alpha_s + sigma_s
        velocity = sum(found.epsilon - found.x_0 for found in predictions) / len(predictions)
        return scale_s * (x_t / scale_t + (sigma_s / scale_s - sigma_t / scale_t) * velocity)

    def drift(self, x_t: Tensor, prediction: Prediction, t: float) -> Tensor:
        of_signal, of_noise = self.schedule.derivatives_at(t)
        return of_signal * prediction.x_0 + of_noise * prediction.epsilon

    def excess(self, x_t: Tensor, prediction: Prediction, t: float) -> Tensor:
        # under N(0, I) data x_t has variance alpha^2 + sigma^2, for flows too
        alpha, sigma = self.schedule.at(t)
        return prediction.epsilon - sigma / (alpha**2 + sigma**2) * x_t

    def loss(self, raw: Tensor, noised: Noised, output: Output, settings: LossSettings) -> Tensor:
        """Eq. 6 and 6b."""
        weighting = settings.weighting or (OwnOutput() if output == "flow" else Unit())
        alpha_t, sigma_t = self.schedule.coefficients(self._moved(noised))
        kappa, of_state, of_noise = self._target(output, noised.s, alpha_t, sigma_t)
        target = noised.random if output == "epsilon" else _combined(of_state, noised.x_s, of_noise, noised.random)
        # from data without noise kappa is 1: two passes over the state, forwards and back, are spared
        scaled = raw if self.schedule.at(noised.s)[1] == 0 else broadcast(kappa.to(target), raw) * raw
        error = squared_error(scaled, target)
        return weighting.for_output(output, alpha_t, sigma_t).to(error) * mean_over_real(error, noised.mask)

    def apart(self, one: Tensor, other: Tensor, noised: Noised, output: Output, settings: LossSettings) -> Tensor:
        """Lambda kappa^2 |one - other|^2, the mean over real elements: what `loss` would be of an exact ``other``."""
        weighting = settings.weighting or (OwnOutput() if output == "flow" else Unit())
        alpha_t, sigma_t = self.schedule.coefficients(self._moved(noised))
        kappa = self._from(noised.s, alpha_t, sigma_t).sigma / sigma_t
        weight = weighting.for_output(output, alpha_t, sigma_t) * kappa**2
        return weight.to(one) * mean_over_real(squared_error(one, other), noised.mask)

    def clean(self, raw: Tensor, noised: Noised, output: Output) -> tuple[Tensor, Tensor]:
        t = self._moved(noised)
        kappa, target = self.scaled_target("sample", noised.x_s, noised.random, noised.s, t)
        predicted = convert(output, raw, noised.x_t, *self.schedule.coefficients(t)).x_0
        return broadcast(kappa.to(predicted), predicted) * predicted, target

    def _moved(self, noised: Noised) -> Tensor:
        """The levels; T of what has not moved, which teaches nothing, but must be finite to be left out."""
        return torch.where(noised.t > noised.s, noised.t, self.schedule.t_max)

    def scaled_target(self, output: Output, x_s: Tensor, e: Tensor, s: float, t: Tensor) -> tuple[Tensor, Tensor]:
        """Kappa = sigma_ts / sigma_t, and kappa times the target of Eq. 6 or 6b; both stay bounded as t -> s.

        Args:
            output: the network's output type.
            x_s: field at s, ``(batch, *shape)``.
            e: standard normal noise of the kernel s -> t, like ``x_s``.
            s: level of ``x_s``.
            t: levels ``(batch,)``.
        """
        kappa, of_state, of_noise = self._target(output, s, *self.schedule.coefficients(t))
        return kappa, e if output == "epsilon" else _combined(of_state, x_s, of_noise, e)

    def _target(self, output: Output, s: float, alpha_t: Tensor, sigma_t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Kappa and the factors of x_s and of e in kappa times the target, ``(batch,)`` each, float64."""
        alpha_s, sigma_s = self.schedule.at(s)
        kernel = self._from(s, alpha_t, sigma_t)
        kappa = kernel.sigma / sigma_t
        # kappa x_0* = (kappa x_s - (alpha_ts sigma_s^2 / sigma_t) e) / alpha_s, and kappa eps* = e
        of_state = kappa / alpha_s
        of_noise = kernel.alpha * (-(sigma_s**2) / alpha_s) / sigma_t
        if output == "epsilon":
            return kappa, torch.zeros_like(kappa), torch.ones_like(kappa)
        if output == "sample":
            return kappa, of_state, of_noise
        if output == "v_prediction":
            return kappa, -sigma_t * of_state, alpha_t - sigma_t * of_noise
        if output == "flow":
            return kappa, -of_state, 1 - of_noise
        raise ValueError(f"output={output!r} is not that of a Gaussian field")

    def _from(self, s: float, alpha_t: Tensor, sigma_t: Tensor) -> GaussianKernel:
        """The kernel from one level to those of a batch, nothing of which is read back to the host."""
        alpha_s, sigma_s = self.schedule.at(s)
        if alpha_s == 0:
            raise ValueError(_nothing_left(s))
        if (alpha_s, sigma_s) == (1.0, 0.0):
            return GaussianKernel(alpha_t, sigma_t)  # what the formula gives, bit for bit, in a tenth of the operations
        alpha = alpha_t / alpha_s
        return GaussianKernel(alpha, (sigma_t**2 - alpha**2 * sigma_s**2).clamp_min(0).sqrt())


def _combined(a: Tensor, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """A x + b y with ``(batch,)`` factors, in two passes over the state."""
    return torch.addcmul(broadcast(a.to(x), x) * x, broadcast(b.to(y), y), y)


def _nothing_left(s: object) -> str:
    return f"nothing is left of the signal at s={s}: no kernel starts there"


class CentredGaussianPath(GaussianPath):
    """Point clouds ``(batch, n, d)`` whose mean over the real points is zero (EDM, arXiv 2203.17003).

    Noise is projected on that subspace, where it is standard normal; the kernel and its reversal are those of Eq. 2.
    """

    def project(self, noise: Tensor, mask: Tensor | None = None) -> Tensor:
        """Noise less its mean over the real points, zero elsewhere. Arguments as in `GaussianPath.project`."""
        weight = noise.new_ones(noise.shape[:2] + (1,) * (noise.ndim - 2)) if mask is None else weight_of(mask, noise)
        mean = (noise * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
        return (noise - mean) * weight

    def dimensions(self, like: Tensor, mask: Tensor | None = None) -> Tensor:
        """Those of all real points but one. Arguments as in `GaussianPath.dimensions`."""
        real = super().dimensions(like, mask)
        return (real - math.prod(like.shape[2:])).clamp_min(0)
