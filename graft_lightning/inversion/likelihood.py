"""The likelihood that a corrector gains, in bits per dimension (Eq. 9), and the densities that it needs."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from graft_lightning.inversion.contraction import lipschitz
from graft_lightning.inversion.differential import jacobian
from graft_lightning.inversion.inverted_state import invert_state
from graft_lightning.inversion.solvers import Solver
from graft_lightning.inversion.steps import FlowSteps
from graft_lightning.processes.noise import Noise, derived_seeds
from graft_lightning.statistics import student_quantile

PROBES = 256
"""Draws of noise along whose way eta L is measured: a fold that one in a hundred of them meets is missed in 8 %."""


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
        """What the metric is a likelihood of."""
        condition = (
            ""
            if self.share == 1
            else (f", over {self.share:.1%} of the samples: where the inversion converged and the density is known")
        )
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
        eta_L: of every step on its own ``(steps,)``, k = 1 first: the largest eta L (Eq. 8) that was met, at the
            pre-images and where the map takes standard normal noise; a lower bound.
    """

    log_density: Tensor
    converged: Tensor
    folded: Tensor
    eta_L: Tensor

    @property
    def one_to_one(self) -> bool:
        """Whether every step contracts, eta L < 1 wherever it was measured.

        A step may be one-to-one without (it may expand, or shear). But where eta L reaches 1 it may fold, and then a
        sample whose own pre-image looks innocent has others: what one sample shows cannot say so.
        """
        return bool((self.eta_L < 1).all())

    @property
    def known(self) -> Tensor:
        """Converged, not folded, and the map one-to-one as far as can be seen, bool ``(batch,)``."""
        return self.converged & ~self.folded & self.one_to_one


def map_log_density(
    flow: FlowSteps, x: Tensor, solver: Solver | None = None, batch_size: int | None = None
) -> MapDensity:
    """The density of what `FlowSteps.generate` makes of standard normal noise, at x; exact for the discrete map.

    ``log N(z; 0, I) - sum_k log |det d step_k|``, z the pre-image of x. The Jacobians are d x d: for small dimension.
    Exact where the map is one-to-one, which it is where every inverse step contracts (`MapDensity.known`).

    Args:
        flow: the corrector and its K_c steps.
        x: ``(batch, *shape)``; rows that are not finite stay unknown.
        solver: of the inverse steps.
        batch_size: samples at a time.
    """
    size = batch_size or max(1, len(x))
    parts = [_map_log_density(flow, part, solver) for part in x.split(size)]
    probes = _eta_L_of_noise(flow, x, size)
    return MapDensity(
        torch.cat([p.log_density for p in parts]),
        torch.cat([p.converged for p in parts]),
        torch.cat([p.folded for p in parts]),
        torch.stack([probes, *(p.eta_L for p in parts)]).amax(0),
    )


def _eta_L_of_noise(flow: FlowSteps, like: Tensor, batch_size: int) -> Tensor:
    """The largest eta L of every step on the way of `PROBES` draws of standard normal noise, ``(steps,)``."""
    largest = torch.zeros(flow.steps, dtype=torch.float64, device=like.device)
    for seeds in derived_seeds(torch.arange(PROBES), "eta L of a map").split(batch_size):
        state = Noise(seeds, like.device, like.dtype).normal(*like.shape[1:])
        for k in range(flow.steps, 0, -1):
            found = lipschitz(lambda x_k, k=k: flow.increment(x_k, k), state, seeds)  # type: ignore[misc]
            largest[k - 1] = torch.maximum(largest[k - 1], found.double().max())
            with torch.no_grad():
                state = flow.step(state, k)
    return largest


def _map_log_density(flow: FlowSteps, x: Tensor, solver: Solver | None) -> MapDensity:
    inversion = invert_state(flow, x, solver=solver)
    found = inversion.converged.nonzero().squeeze(1)
    z = inversion.usable
    value = standard_normal_log_density(z).double()
    folded = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    eta_L = torch.zeros(flow.steps, dtype=torch.float64, device=x.device)
    state = z
    for k in range(flow.steps if len(found) else 0, 0, -1):
        # of the increment: a velocity without gradient is then an error, where the step's would look like identity
        matrix = jacobian(lambda x_k, k=k: flow.increment(x_k, k), state).double()  # type: ignore[misc]
        sign, log_determinant = torch.linalg.slogdet(torch.eye(matrix.shape[1]).to(matrix) - matrix)
        value = value - log_determinant
        eta_L[k - 1] = torch.linalg.matrix_norm(matrix, 2).max()
        folded[found] |= sign < 0
        with torch.no_grad():
            state = flow.step(state, k)
    log_density = torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
    return MapDensity(log_density.index_copy(0, found, value), inversion.converged, folded, eta_L)
