"""The whole method in torch alone: on Gaussian data with a linear reward, everything has a closed form.

With reward r = a . x, data N(m, diag v) and classical rejection at temperature alpha, the accepted follow
N(m + v a / alpha, v) (Eq. 5). A model trained on them by GRAFT, or by P-GRAFT under a deterministic sampler, has to
sample that distribution. Under a stochastic sampler the reference forgets part of what P-GRAFT has selected: with c the
covariance of x_s and x_0, and V_s the variance of x_s, the mean moves by (c / V_s) c a / alpha.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from graft_lightning.processes.noise import Noise, trajectory_seeds
from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDPM, Heun, Sampler
from graft_lightning.processes.schedules import FromTable, RectifiedFlow
from graft_lightning.processes.stitched import Stitched
from graft_lightning.rejection.acceptance import Always, ClassicalRejection
from graft_lightning.rejection.selection import select
from graft_lightning.types import Trajectory
from tests.fakes import GaussianNetwork, ImpulseNoise, ModuleDenoiser, exact_moments

LEVELS = 24
RATIOS = torch.logspace(-1.7, 2, LEVELS, dtype=torch.float64)
"""sigma / alpha of a short table, evenly spread in log SNR, all of whose levels a sampler visits."""
TABLE = GaussianPath(FromTable((1 / (1 + RATIOS**2)).tolist()))
FLOW = GaussianPath(RectifiedFlow())
DIRECTION = torch.tensor([1.0, 0.5], dtype=torch.float64)
DRAWS = 20_000
LEFT = 1
ERRORS = 4.0
"""Tolerance in standard errors of the accepted sample, the one source of chance."""


@dataclass
class Collected:
    """What the reference drew for one condition, and what the rule took of it."""

    sampler: Sampler
    path: GaussianPath
    reference: ModuleDenoiser
    trajectory: Trajectory
    accepted: Tensor
    temperature: float
    mean: Tensor
    variance: Tensor

    @property
    def tilted(self) -> Tensor:
        """Mean of the tilted Gaussian; its variance is the reference's."""
        return self.mean + self.variance * DIRECTION / self.temperature


def collect(sampler: Sampler, path: GaussianPath) -> Collected:
    reference = ModuleDenoiser(GaussianNetwork(path, "v_prediction").requires_grad_(False), "v_prediction")
    process = Process(path)
    mean, variance = exact_moments(sampler, reference, process, LEFT)
    seeds = trajectory_seeds(0, 0, ["left"] * DRAWS, range(DRAWS))
    trajectory = sampler.sample(
        reference,
        process,
        torch.full((DRAWS,), LEFT),
        Noise(seeds, dtype=torch.float64),
        (2,),
        keep=sampler.levels(process)[::6],
    )
    spread = (variance * DIRECTION**2).sum().sqrt().item()
    rule = ClassicalRejection(spread, (mean * DIRECTION).sum().item() + 4 * spread)
    rewards = (trajectory.x_0 @ DIRECTION).unsqueeze(0)
    selection = select(rewards, torch.full((1, DRAWS), -1), seeds.unsqueeze(0), rule)
    return Collected(sampler, path, reference, trajectory, selection.members[0], spread, mean, variance)


@pytest.fixture(scope="module")
def ode() -> Collected:
    return collect(Heun(LEVELS), TABLE)


@pytest.fixture(scope="module")
def ancestral() -> Collected:
    return collect(DDPM(LEVELS), TABLE)


@pytest.fixture(scope="module")
def flow() -> Collected:
    return collect(Heun(LEVELS), FLOW)


def assert_distribution(
    collected: Collected,
    mean: Tensor,
    variance: Tensor,
    expected: Tensor,
    bias: float = 0.0,
    shrinkage: float | None = None,
) -> None:
    """Mean and variance within `ERRORS` standard errors of a sample of the accepted, plus a share of discretisation."""
    count = len(collected.accepted)
    deviation = collected.variance.sqrt()
    assert ((mean - expected) / deviation).abs().max() < ERRORS / count**0.5 + bias
    assert (variance / collected.variance - 1).abs().max() < ERRORS * (2 / count) ** 0.5 + (
        bias if shrinkage is None else shrinkage
    )


class PerLevel(nn.Module):
    """v = slope[t] x + shift[t]: every linear denoiser, and no other; starts as the reference."""

    def __init__(self, reference: ModuleDenoiser) -> None:
        super().__init__()
        t, condition = torch.arange(1, LEVELS + 1), torch.full((LEVELS,), LEFT)
        zero, one = (reference(torch.full((LEVELS, 2), x).double(), t.double(), condition) for x in (0, 1))
        self.slope, self.shift = nn.Parameter(one - zero), nn.Parameter(zero.clone())

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        entry = t.long() - 1
        return self.slope[entry] * x + self.shift[entry]

    def fit(self, loss_of: Callable[[], Tensor]) -> None:
        """Newton's step, which is the minimiser: the loss is quadratic, and separate by level and dimension."""
        parameters = [self.slope, self.shift]
        slope, shift = torch.autograd.grad(loss_of(), parameters, create_graph=True)
        aa, ab = torch.autograd.grad(slope.sum(), parameters, retain_graph=True)
        _, bb = torch.autograd.grad(shift.sum(), parameters)
        determinant = aa * bb - ab**2
        trained = determinant > 0
        with torch.no_grad():
            self.slope -= torch.where(trained, (bb * slope - ab * shift) / determinant, 0)
            self.shift -= torch.where(trained, (aa * shift - ab * slope) / determinant, 0)
        residual = torch.autograd.grad(loss_of(), parameters)
        assert max(g.abs().max() for g in residual) < 1e-8 * max(1, slope.abs().max())


def train(collected: Collected, n_i: int, states: str, members: Tensor | None = None) -> ModuleDenoiser:
    """GRAFT (n_i = 0) or P-GRAFT on the accepted, through the objective."""
    process, trajectory = Process(collected.path), collected.trajectory
    s = collected.sampler.levels(process)[n_i]
    members = collected.accepted if members is None else members
    x = (trajectory.states[s] if states == "x_s" else trajectory.x_0)[members]
    copies = 30_000 // len(x) + 1
    x = x.repeat(copies, 1)
    model = PerLevel(collected.reference)
    denoiser = ModuleDenoiser(model, "v_prediction")
    noise_seeds, condition = torch.arange(len(x)) + 2**33, torch.full((len(x),), LEFT)

    def loss_of() -> Tensor:
        noise = Noise(noise_seeds, dtype=torch.float64)
        level = s if states == "x_s" else 0.0
        return Objective().loss(denoiser, process, x, condition, noise, level, s).value.mean()

    model.fit(loss_of)
    return denoiser


def stitched_moments(collected: Collected, denoiser: ModuleDenoiser, n_i: int) -> tuple[Tensor, Tensor]:
    process = Process(collected.path)
    s = collected.sampler.levels(process)[n_i]
    return exact_moments(collected.sampler, Stitched(denoiser, collected.reference, s), process, LEFT)


def test_classical_rejection_recovers_the_tilted_gaussian(ode):
    x = ode.trajectory.x_0[ode.accepted]
    assert_distribution(ode, x.mean(0), x.var(0), ode.tilted)
    rate = len(ode.accepted) / DRAWS
    expected = torch.tensor(-3.5).exp().item()  # E exp((r - c) / alpha), r normal; the cap costs 0.1 % of it
    assert abs(rate - expected) < ERRORS * (expected / DRAWS) ** 0.5
    moved = (ode.tilted - ode.mean) / ode.variance.sqrt()
    assert moved.min() > 3 * ERRORS / len(x) ** 0.5  # so that standing still would be seen


def test_graft_recovers_the_tilted_gaussian(ode):
    assert_distribution(ode, *stitched_moments(ode, train(ode, 0, "x_0"), 0), ode.tilted, bias=0.02)


@pytest.mark.parametrize("n_i", [6, 12, 18])
def test_p_graft_recovers_the_tilted_gaussian(ode, n_i):
    assert_distribution(ode, *stitched_moments(ode, train(ode, n_i, "x_s"), n_i), ode.tilted, bias=0.02)


@pytest.mark.parametrize("n_i", [6, 12, 18])
def test_states_x_0_under_an_ode_has_its_closed_form(ode, n_i):
    """An ODE's pairs (x_s, x_0) do not obey Eq. 1: noising x_0 afresh leaves alpha_s sqrt(v / V_s) of the shift."""
    (alpha_s,), (sigma_s,) = TABLE.alpha_sigma(torch.tensor([n_i]))
    retained = (ode.variance / (ode.variance + (sigma_s / alpha_s) ** 2)).sqrt()
    expected = ode.mean + retained * (ode.tilted - ode.mean)
    assert_distribution(ode, *stitched_moments(ode, train(ode, n_i, "x_0"), n_i), expected, bias=0.02)


@pytest.mark.parametrize("n_i", [6, 12, 18])
@pytest.mark.parametrize("states", ["x_s", "x_0"])
def test_p_graft_under_ancestral_sampling_has_its_closed_form(ancestral, n_i, states):
    """Both kinds of states teach the same, for here the pairs obey Eq. 1 but for the error of the steps."""
    process = Process(ancestral.path)
    s = ancestral.sampler.levels(process)[n_i]
    noise = ImpulseNoise(LEVELS + 1)
    responses = ancestral.sampler.sample(
        ancestral.reference, process, torch.full((len(noise),), LEFT), noise, (2,), keep=[s]
    )
    of_s, of_0 = (state[1:] - state[0] for state in (responses.states[s], responses.x_0))
    covariance, variance_s = (of_s * of_0).sum(0), (of_s**2).sum(0)
    expected = ancestral.mean + covariance**2 / variance_s * DIRECTION / ancestral.temperature
    retained = (expected - ancestral.mean) / (ancestral.tilted - ancestral.mean)
    assert (retained < 1).all()
    mean, variance = stitched_moments(ancestral, train(ancestral, n_i, states), n_i)
    # 24 ancestral steps narrow what they finish: by a quarter of the variance at 6 of 24, over ten pools
    assert_distribution(ancestral, mean, variance, expected, bias=0.05, shrinkage=0.15)


def test_unselected_samples_teach_nothing(ode):
    everything = torch.arange(DRAWS)
    seeds = trajectory_seeds(0, 0, ["left"] * DRAWS, range(DRAWS)).unsqueeze(0)
    rewards = (ode.trajectory.x_0 @ DIRECTION).unsqueeze(0)
    members = select(rewards, torch.full((1, DRAWS), -1), seeds, Always()).members[0]
    assert torch.equal(members, everything)
    mean, variance = stitched_moments(ode, train(ode, 0, "x_0", members), 0)
    assert ((mean - ode.mean) / ode.variance.sqrt()).abs().max() < ERRORS / DRAWS**0.5 + 0.02
    assert (variance / ode.variance - 1).abs().max() < ERRORS * (2 / DRAWS) ** 0.5 + 0.02


@pytest.mark.parametrize("n_i", [0, 12])
def test_a_flow_trained_by_gradient_descent_recovers_it_too(flow, n_i):
    """The mean and the variance of the network are what Adam learns; the reference is its starting point."""
    process = Process(FLOW)
    s = flow.sampler.levels(process)[n_i]
    network = GaussianNetwork(FLOW, "flow")
    denoiser = ModuleDenoiser(network, "flow")
    x = flow.trajectory.states[s][flow.accepted]
    steps, batch = 120, 256
    optimiser = torch.optim.Adam(network.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    shuffle = torch.Generator().manual_seed(0)
    for step in range(steps):
        rows = torch.randint(len(x), (batch,), generator=shuffle)
        noise = Noise(torch.arange(batch) + batch * step, dtype=torch.float64)
        loss = Objective().loss(denoiser, process, x[rows], torch.full((batch,), LEFT), noise, s).value.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    reference = ModuleDenoiser(GaussianNetwork(FLOW, "flow"), "flow")
    with torch.no_grad():
        mean, variance = exact_moments(flow.sampler, Stitched(denoiser, reference, s), process, LEFT)
    assert_distribution(flow, mean, variance, flow.tilted, bias=0.04)
