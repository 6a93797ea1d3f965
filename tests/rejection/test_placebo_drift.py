"""Fine-tuning on unselected samples of a Gaussian with the exact feature, by SGD: its drift in closed form.

x_0 ~ N(0, 1) and alpha^2 + sigma^2 = 1, so that x_t ~ N(0, 1) and E[eps | x_t] = sigma x_t. The model is slope x_t;
with d the slope less sigma, r = sigma x - e (independent of x, variance alpha^2), a step of rate h on a batch of B is

    d' = d - 2 h mean(d x^2 + r x),    E d' = (1 - 2 h) E d,
    E d'^2 = q E d^2 + c,    q = 1 - 4 h + 4 h^2 (1 + 2 / B),    c = 4 h^2 alpha^2 / B.

Thousands of chains run side by side, each with a slope of its own.
"""

import pytest
import torch

from graft_lightning.processes.noise import Noise, place_seeds
from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import Trigonometric
from graft_lightning.processes.times import TimeDistribution
from graft_lightning.rejection.objectives import UnselectedBaseline
from graft_lightning.types import Groups
from tests.fakes import ModuleDenoiser

LEVEL, CHAINS = 0.6, 3000
ALPHA, SIGMA = (float(value) for value in GaussianPath(Trigonometric()).schedule.at(LEVEL))


class OneLevel(TimeDistribution):
    """Always the same level."""

    def draw(self, noise, low, high, schedule):
        return torch.full((len(noise),), LEVEL, dtype=torch.float64)


PROCESS = Process(GaussianPath(Trigonometric()), OneLevel())


def drift(start, rate, steps, batch, baseline=False):
    """The slopes ``(CHAINS,)`` after SGD on unselected samples; with a baseline, one in two is selected at random."""
    generator = torch.Generator().manual_seed(0)
    slopes = torch.full((CHAINS,), start, requires_grad=True)
    optimiser = torch.optim.SGD([slopes], lr=rate)
    frozen = ModuleDenoiser(lambda x, t, c: start * x, "epsilon")
    model = ModuleDenoiser(lambda x, t, c: slopes.repeat_interleave(batch)[:, None] * x, "epsilon")
    count = CHAINS * batch
    for step in range(steps):
        x = torch.randn(count, 1, generator=generator)
        seeds = place_seeds("drift", step, range(count))
        if baseline:
            weight = (torch.rand(count, generator=generator) < 0.5).float() * 2
            groups = Groups(x, [""] * count, seeds, weight, weight, batch)
            loss = UnselectedBaseline().group_loss(model, frozen, PROCESS, groups, None)
        else:
            loss = Objective().loss(model, PROCESS, x, None, Noise(seeds))
        optimiser.zero_grad()
        (loss.value.sum() / batch).backward()  # of each chain, the mean over its batch
        optimiser.step()
    return slopes.detach().double()


def expected_variance(rate, steps, batch):
    """E d^2 from the exact reference."""
    q = 1 - 4 * rate + 4 * rate**2 * (1 + 2 / batch)
    return 4 * rate**2 * ALPHA**2 / batch * (1 - q**steps) / (1 - q)


@pytest.mark.parametrize(("rate", "steps", "batch"), [(0.02, 5, 4), (0.02, 40, 4), (0.1, 20, 4), (0.1, 20, 16)])
def test_from_an_exact_reference_only_noise_moves_the_model(rate, steps, batch):
    moved = drift(SIGMA, rate, steps, batch) - SIGMA
    expected = expected_variance(rate, steps, batch)
    assert float(moved.mean()) == pytest.approx(0.0, abs=4 * (expected / CHAINS) ** 0.5)
    assert float(moved.square().mean()) == pytest.approx(expected, rel=0.12)  # of 3,000: a standard error of 2.6 %


def test_a_wrong_reference_drifts_towards_its_own_samples_unless_the_baseline_holds_it():
    """Plain: E d = (1 - 2 h)^k d_0. With the baseline the mean stays at the reference, at the price of noise."""
    start, rate, steps, batch = SIGMA - 0.4, 0.05, 12, 8
    plain, held = drift(start, rate, steps, batch), drift(start, rate, steps, batch, baseline=True)
    assert float(plain.mean()) == pytest.approx(SIGMA - 0.4 * (1 - 2 * rate) ** steps, abs=0.01)
    assert float(held.mean()) == pytest.approx(start, abs=4 * float(held.std()) / CHAINS**0.5)
    assert abs(float(plain.mean()) - start) > 0.2
    assert held.var() > plain.var()
