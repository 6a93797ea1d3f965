"""The likelihood that a corrector gains, in bits per dimension (Eq. 9), and the densities that it needs."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from graft_lightning.inversion.differential import Linearised, jacobian
from graft_lightning.inversion.invert import invert_state
from graft_lightning.inversion.solvers import Solver
from graft_lightning.inversion.steps import FlowSteps, Velocity
from graft_lightning.processes.noise import Noise
from graft_lightning.statistics import student_quantile


def standard_normal_log_density(x: Tensor) -> Tensor:
    """The log of N(x; 0, I) in nats ``(batch,)``."""
    flat = x.flatten(1)
    return -0.5 * (flat.square().sum(1) + flat.shape[1] * math.log(2 * math.pi))


@dataclass(frozen=True)
class LikelihoodGain:
    """Eq. 9 over held-out samples.

    Attributes:
        gain: bits per dimension of each sample ``(batch,)``; NaN where the sample, or its density, is not known.
        mean: of the samples that are known.
        standard_error: of that mean; NaN for fewer than 2.
        share: of all samples that are known.
        start: t of the state that was inverted, 0 for the data.
        dequantised: whether the data were dequantised before they were inverted.
    """

    gain: Tensor
    mean: float
    standard_error: float
    share: float
    start: float
    dequantised: bool

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the mean, Student's t over the samples that are known."""
        half = student_quantile(int(self.gain.isfinite().sum())) * self.standard_error
        return self.mean - half, self.mean + half

    @property
    def claim(self) -> str:
        """What the figure is a likelihood of."""
        condition = "" if self.share == 1 else f", given convergence ({self.share:.1%} of the samples)"
        if self.start:
            return f"gain at t = {self.start:g}{condition}"
        if not self.dequantised:
            return f"gain in density of data that were not dequantised: not a likelihood{condition}"
        return f"gain in likelihood of the data{condition}"


def likelihood_gain(
    log_density: Tensor,
    noise: Tensor,
    known: Tensor | None = None,
    start: float = 0.0,
    dequantised: bool = False,
) -> LikelihoodGain:
    """Eq. 9: ``(log q(z) - log N(z; 0, I)) / (d ln 2)`` at the exact inverse z of held-out data.

    Args:
        log_density: log q(z) under the corrector, nats ``(batch,)``.
        noise: z ``(batch, *shape)``, all samples, failed ones too.
        known: which samples count, those whose inversion and density converged, bool ``(batch,)``; all by default.
        start: t_m of the inversion.
        dequantised: whether the data were dequantised.
    """
    gain = (log_density - standard_normal_log_density(noise)).double() / (noise[0].numel() * math.log(2))
    known = gain.isfinite() & (torch.ones_like(gain, dtype=torch.bool) if known is None else known)
    gain = torch.where(known, gain, torch.nan)
    kept = gain[known]
    nothing = float("nan")
    return LikelihoodGain(
        gain=gain,
        mean=kept.mean().item() if len(kept) else nothing,
        standard_error=kept.std().item() / len(kept) ** 0.5 if len(kept) > 1 else nothing,
        share=known.double().mean().item(),
        start=start,
        dequantised=dequantised,
    )


@dataclass(frozen=True)
class MapDensity:
    """The density of a K_c-step map's output.

    Attributes:
        log_density: nats ``(batch,)``; NaN where no pre-image was found.
        converged: whether the pre-image was found, bool ``(batch,)``.
        folded: whether a step's determinant is negative there, bool ``(batch,)``: the map is then not one-to-one, and
            the value counts one of several pre-images, a lower bound of the density.
    """

    log_density: Tensor
    converged: Tensor
    folded: Tensor

    @property
    def known(self) -> Tensor:
        """Converged and not folded, bool ``(batch,)``."""
        return self.converged & ~self.folded


def map_log_density(
    flow: FlowSteps, x: Tensor, solver: Solver | None = None, batch_size: int | None = None
) -> MapDensity:
    """The density of what `FlowSteps.generate` makes of standard normal noise, at x; exact for the discrete map.

    ``log N(z; 0, I) - sum_k log |det d step_k|``, z the pre-image of x. The Jacobians are d x d: for small dimension.

    Args:
        flow: the corrector and its K_c steps.
        x: ``(batch, *shape)``; rows that are not finite stay unknown.
        solver: of the inverse steps.
        batch_size: samples at a time.
    """
    parts = [_map_log_density(flow, part, solver) for part in x.split(batch_size or max(1, len(x)))]
    return MapDensity(
        torch.cat([p.log_density for p in parts]),
        torch.cat([p.converged for p in parts]),
        torch.cat([p.folded for p in parts]),
    )


def _map_log_density(flow: FlowSteps, x: Tensor, solver: Solver | None) -> MapDensity:
    inversion = invert_state(flow, x, solver=solver)
    found = inversion.converged.nonzero().squeeze(1)
    z = inversion.usable
    value = standard_normal_log_density(z).double()
    folded = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    state = z
    for k in range(flow.steps if len(found) else 0, 0, -1):
        # of the increment: a velocity without gradient is then an error, where the step's would look like identity
        matrix = jacobian(lambda x_k, k=k: flow.increment(x_k, k), state).double()  # type: ignore[misc]
        sign, log_determinant = torch.linalg.slogdet(torch.eye(matrix.shape[1]).to(matrix) - matrix)
        value = value - log_determinant
        folded[found] |= sign < 0
        with torch.no_grad():
            state = flow.step(state, k)
    log_density = torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
    return MapDensity(log_density.index_copy(0, found, value), inversion.converged, folded)


@dataclass(frozen=True)
class FlowDensity:
    """An estimate of the continuous flow's log density at t = 0.

    Attributes:
        log_density: nats, mean over the probes ``(batch,)``.
        standard_error: of that mean, over the probes ``(batch,)``; NaN for one probe.
    """

    log_density: Tensor
    standard_error: Tensor


def hutchinson_log_density(velocity: Velocity, x: Tensor, steps: int, seeds: Tensor, probes: int = 8) -> FlowDensity:
    """``log N(x_1; 0, I) + integral of div v`` along the flow from x, the divergence estimated by random signs.

    The density of the *continuous* flow: not that of the map which generates, and a figure of its own. Integrated by
    the midpoint rule, which never asks for v(., 0).

    Args:
        velocity: the flow.
        x: states at t = 0 ``(batch, *shape)``.
        steps: of the integration.
        seeds: of the probes, int64 ``(batch,)``.
        probes: random directions per sample; the same along its whole path, which keeps the estimate unbiased.

    Raises:
        ValueError: if ``steps`` or ``probes`` is below 1.
    """
    if steps < 1 or probes < 1:
        raise ValueError(f"steps={steps}, probes={probes}; both are at least 1")
    noise = Noise(seeds, x.device, x.dtype)
    signs = [torch.where(noise.uniform(*x.shape[1:]) < 0.5, -1.0, 1.0).to(x.dtype) for _ in range(probes)]
    total = torch.zeros(len(x), probes, dtype=torch.float64, device=x.device)
    eta = 1 / steps
    for k in range(steps):
        with torch.no_grad():
            middle = x + eta / 2 * _at(velocity, x, (k + 0.25) * eta)
        linear = Linearised(lambda state, t=(k + 0.5) * eta: _at(velocity, state, t), middle)  # type: ignore[misc]
        for probe, sign in enumerate(signs):
            total[:, probe] += eta * (sign * linear.along(sign)).flatten(1).sum(1).double()
        x = x + eta * linear.value
    value = standard_normal_log_density(x).double() + total.mean(1)
    return FlowDensity(value, total.std(1) / probes**0.5 if probes > 1 else torch.full_like(value, torch.nan))


def _at(velocity: Velocity, x: Tensor, t: float) -> Tensor:
    return velocity(x, torch.full((len(x),), t, dtype=torch.float64, device=x.device))
