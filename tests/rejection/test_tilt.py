"""What a sampler leaves of the tilt: a mixture of two with exact scores, accepted by exp(x).

The base has the mean -.360, the tilted distribution .8225. A perfectly trained P-GRAFT starts from accepted x_s and
finishes them by the reference. Under a stochastic sampler its distribution is p(x_0) E[E[A | X_s] | X_0]; an ODE in one
dimension keeps the order of its states, so that x_s goes to the quantile of x_0 that it is of p_s.
"""

import pytest
import torch
from torch import Tensor

from graft_lightning.modules.graft import KEPT_BY_X_0
from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise, derived_seeds
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM, Euler, Heun, Sampler
from graft_lightning.processes.schedules import Linear, RectifiedFlow

WEIGHTS, MEANS, DEVIATIONS = (
    torch.tensor(values, dtype=torch.float64) for values in ([0.6, 0.4], [-1.2, 0.9], [0.35, 0.5])
)
BASE, TILTED = -0.36, 0.8225
DRAWS = 10_000
X = torch.linspace(-8, 9, 801, dtype=torch.float64)
FLOW, DIFFUSION = Process(GaussianPath(RectifiedFlow())), Process(GaussianPath(Linear()))


class Mixture(Denoiser):
    """E[x_0 | x_t], exactly."""

    output = "sample"

    def __init__(self, process: Process) -> None:
        (self.path,) = process.paths.values()

    def __call__(self, x_t, t, condition):
        x = x_t["x"] if isinstance(x_t, dict) else x_t
        alpha, sigma = (value.to(x)[:, None] for value in self.path.alpha_sigma(t))
        variance = alpha**2 * DEVIATIONS**2 + sigma**2
        near = WEIGHTS.log() - variance.log() / 2 - (x - alpha * MEANS) ** 2 / (2 * variance)
        given = (alpha * DEVIATIONS**2 * x + sigma**2 * MEANS) / variance
        return (near.softmax(1) * given).sum(1, keepdim=True)


def density(x: Tensor, alpha: float, sigma: float) -> Tensor:
    deviations = (alpha**2 * DEVIATIONS**2 + sigma**2).sqrt()
    return torch.distributions.Normal(alpha * MEANS, deviations).log_prob(x[:, None]).exp() @ WEIGHTS


def distribution(x: Tensor, alpha: float, sigma: float) -> Tensor:
    deviations = (alpha**2 * DEVIATIONS**2 + sigma**2).sqrt()
    return torch.distributions.Normal(alpha * MEANS, deviations).cdf(x[:, None]) @ WEIGHTS


def mean_of(weight: Tensor, values: Tensor = X) -> float:
    return float((weight * values).sum() / weight.sum())


def kept(mean: float) -> float:
    """The share of the tilt in a mean."""
    return (mean - BASE) / (TILTED - BASE)


def levels_of(process: Process, level: float) -> tuple[float, float]:
    (path,) = process.paths.values()
    return tuple(float(value) for value in path.alpha_sigma(torch.tensor([level], dtype=torch.float64)))


def kept_by_ancestral(process: Process, level: float) -> float:
    """Of p(x_0) E[E[A | X_s] | X_0]."""
    alpha, sigma = levels_of(process, level)
    kernel = torch.distributions.Normal(alpha * X, sigma).log_prob(X[:, None]).exp()  # (x_s, x_0)
    base = density(X, 1, 0)
    accepted = kernel @ (base * X.exp()) / (kernel @ base).clamp_min(1e-300)
    return kept(mean_of(base * (accepted @ kernel)))


def kept_by_x_0(level: float) -> float:
    """Of the tilted x_0, noised along the linear path and carried back by quantiles."""
    alpha, sigma = levels_of(FLOW, level)
    noised = torch.distributions.Normal(alpha * X, sigma).log_prob(X[:, None]).exp() @ (density(X, 1, 0) * X.exp())
    below, quantiles = distribution(X, alpha, sigma), distribution(X, 1, 0)
    right = torch.searchsorted(quantiles, below).clamp(1, len(X) - 1)
    share = (below - quantiles[right - 1]) / (quantiles[right] - quantiles[right - 1]).clamp_min(1e-300)
    return kept(mean_of(noised, X[right - 1] + share.clamp(0, 1) * (X[right] - X[right - 1])))


def test_the_mixture_is_the_one_that_is_spoken_of():
    assert mean_of(density(X, 1, 0)) == pytest.approx(BASE, abs=1e-4)
    assert mean_of(density(X, 1, 0) * X.exp()) == pytest.approx(TILTED, abs=1e-4)


def test_ancestral_sampling_keeps_a_tenth_at_half_the_levels():
    """Half of the levels of the linear schedule lie beyond sigma / alpha = 3.4."""
    assert kept_by_ancestral(DIFFUSION, 500) == pytest.approx(0.10, abs=0.005)
    assert kept_by_ancestral(DIFFUSION, 250) == pytest.approx(0.62, abs=0.005)


@pytest.mark.parametrize(("level", "share"), KEPT_BY_X_0.items())
def test_the_shares_that_the_warning_names(level, share):
    assert kept_by_x_0(level) == pytest.approx(share, abs=0.005)


def finished(sampler: Sampler, process: Process, n: int, states: str) -> tuple[float, float]:
    """Mean of accepted x_s (or x_0, noised again) finished by the library, and its standard error, as shares kept."""
    denoiser, seeds = Mixture(process), torch.arange(DRAWS)
    noise = Noise(seeds, dtype=torch.float64)
    s = sampler.levels(process)[n]
    drawn = sampler.sample(denoiser, process, None, noise, (1,), keep=[s])
    weight = drawn.x_0[:, 0].exp()
    fresh = Noise(derived_seeds(seeds, "fresh"), dtype=torch.float64)
    x_s = drawn.states[s] if states == "x_s" else process.diffuse(drawn.x_0, 0.0, s, fresh)
    ends = sampler.resume(denoiser, process, None, fresh, x_s, s).x_0[:, 0]
    mean = mean_of(weight, ends)
    error = float(((weight * (ends - mean)).square().sum()).sqrt() / weight.sum())
    return kept(mean), error / (TILTED - BASE)


@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("steps", [20, 40])
def test_ancestral_sampling_forgets_at_any_number_of_steps(steps, share):
    """The error of the steps falls as 1 / N."""
    n = round(share * steps)
    found, error = finished(DDPM(steps), DIFFUSION, n, "x_s")
    expected = kept_by_ancestral(DIFFUSION, DDPM(steps).levels(DIFFUSION)[n])
    assert found == pytest.approx(expected, abs=4 * error + 0.6 / steps)
    assert error < 0.02  # so that what is lost would be seen


ODES = {"Heun": (Heun(40), FLOW), "Euler": (Euler(80), FLOW), "DDIM": (DDIM(80), DIFFUSION)}


@pytest.mark.parametrize(("sampler", "process"), ODES.values(), ids=ODES)
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_an_ode_keeps_all_of_the_tilt_at_every_level(sampler, process, share):
    found, error = finished(sampler, process, round(share * sampler.steps), "x_s")
    bias = 0 if sampler.order == 2 else 3 / sampler.steps
    assert found == pytest.approx(1, abs=4 * error + bias)
    assert error < 0.02


@pytest.mark.parametrize(("level", "share"), KEPT_BY_X_0.items())
def test_states_x_0_lose_under_an_ode_what_the_warning_says(level, share):
    found, error = finished(Heun(40), FLOW, round(40 * level), "x_0")
    assert found == pytest.approx(share, abs=4 * error + 0.01)


def test_states_x_0_lose_nothing_more_under_ancestral_sampling():
    """Its pairs obey Eq. 1, but for the error of its steps."""
    (x_0, first), (x_s, second) = (finished(DDPM(40), DIFFUSION, 10, states) for states in ("x_0", "x_s"))
    assert x_0 == pytest.approx(x_s, abs=4 * (first + second) + 0.05)
