"""Densities of a sampler's steps, against torch's own distributions and sums over all outcomes."""

import itertools
import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from graft_lightning.processes.denoiser import predict
from graft_lightning.processes.flow_sde import FlowSDE
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.outputs import Prediction
from graft_lightning.processes.paths import CategoricalPath, CentredGaussianPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM, Euler, Heun
from graft_lightning.processes.schedules import Cosine, RectifiedFlow, Trigonometric
from graft_lightning.processes.transitions import log_density
from graft_lightning.processes.velocity import EulerInTime
from graft_lightning.types import SettingsError
from tests.fakes import MEANS, VARIANCES, GaussianNetwork, ImpulseNoise, ModuleDenoiser, exact_moments
from tests.processes.mixtures import dependent

MASK = torch.tensor([[True, True, True, False], [True, True, True, True]])


def double(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_path(path, x_0, eta=0.7, mask=None):
    return path.transition(x_0, Prediction(x_0, x_0 / 2), 0.6, 0.4, mask, eta)


def test_a_gaussian_step_has_the_density_of_torch():
    one, two, x = double(5, 3, 2), double(5, 3, 2, seed=1), double(5, 3, 2, seed=2)
    path = GaussianPath(Trigonometric())
    laws = [of_path(path, mean) for mean in (one, two)]
    known = [Independent(Normal(law.mean, law.std), 2) for law in laws]
    torch.testing.assert_close(laws[0].log_density(x), known[0].log_prob(x))
    torch.testing.assert_close(laws[0].log_ratio(laws[1], x), known[0].log_prob(x) - known[1].log_prob(x))
    torch.testing.assert_close(laws[0].divergence(laws[1]), kl_divergence(*known))
    assert laws[0].freedom.tolist() == [6] * 5
    drawn = laws[0].draw(Noise(torch.arange(5), dtype=torch.float64))
    torch.testing.assert_close(
        drawn,
        path.reverse(one, Prediction(one, one / 2), 0.6, 0.4, Noise(torch.arange(5), dtype=torch.float64), eta=0.7),
    )


def test_padding_has_no_density():
    path, x = GaussianPath(Trigonometric()), double(2, 4, 3)
    whole, cut = of_path(path, x, mask=MASK), of_path(path, x[:1, :3])
    other = double(2, 4, 3, seed=1)
    torch.testing.assert_close(whole.log_density(other)[:1], cut.log_density(other[:1, :3]))
    assert whole.freedom.tolist() == [9, 12]


def test_centred_points_have_the_density_of_their_subspace():
    """In an orthonormal basis of the vectors that sum to zero over three real points of two coordinates."""
    path, points = CentredGaussianPath(Trigonometric()), 3
    mask = torch.tensor([[True] * points + [False]])
    basis = torch.linalg.svd(torch.ones(1, points, dtype=torch.float64)).Vh[1:]
    means, x = (
        [path.project(double(1, 4, 2, seed=k), mask) for k in (0, 1)],
        path.project(double(1, 4, 2, seed=2), mask),
    )
    laws = [of_path(path, mean, mask=mask) for mean in means]

    def inside(value):
        return (basis @ value[0, :points]).flatten()

    known = [MultivariateNormal(inside(law.mean), law.std**2 * torch.eye(4, dtype=torch.float64)) for law in laws]
    assert laws[0].freedom.tolist() == [4]
    assert float(laws[0].log_density(x)) == pytest.approx(float(known[0].log_prob(inside(x))))
    assert float(laws[0].divergence(laws[1])) == pytest.approx(float(kl_divergence(*known)))
    # a network's answer off the subspace moves nothing that is drawn
    shifted = of_path(path, means[0] + 5.0, mask=mask)
    assert float(shifted.log_density(x)) == pytest.approx(float(laws[0].log_density(x)))


def test_the_probabilities_of_all_classes_sum_to_one():
    path = CategoricalPath(Trigonometric(), 3, "absorbing")
    c_t = torch.tensor([[0, 2]])
    process = Process(path)
    logits, others = double(1, 2, 3), double(1, 2, 3, seed=1)
    laws = [path.transition(c_t, path.predict(raw, c_t, 0.6, "logits"), 0.6, 0.3, None) for raw in (logits, others)]
    outcomes = torch.tensor(list(itertools.product(range(3), repeat=2)))
    every = [torch.stack([law.log_density(one[None])[0] for one in outcomes]) for law in laws]
    assert every[0].exp().sum() == pytest.approx(1, abs=1e-6)
    likely = every[0] > -20  # what cannot happen has the least logarithm instead
    expected = (every[0].exp() * (every[0] - every[1]))[likely].sum()
    assert float(laws[0].divergence(laws[1])) == pytest.approx(float(expected), abs=1e-6)
    assert laws[0].freedom.tolist() == [2]
    assert process.paths["x"].draws(0.6, 0.0)


def test_masked_classes_do_not_count():
    path = CategoricalPath(Trigonometric(), 3)
    classes = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1]])
    law = path.transition(classes, path.predict(double(2, 4, 3), classes, 0.6, "logits"), 0.6, 0.3, MASK)
    kept = law.probabilities.gather(-1, classes[..., None])[..., 0].log() * MASK
    torch.testing.assert_close(law.log_density(classes), kept.sum(1))
    assert law.freedom.tolist() == [3, 4]


@pytest.mark.parametrize("sampler", [DDPM(10), Interleaved(10)], ids=["together", "one after the other"])
def test_a_mixed_step_has_the_product_of_its_blocks(sampler):
    """By hand: p(c' | c, y) of the classes, times N(y') at the classes before, or after, they have moved."""
    mixture = dependent()
    process, t, t_next = mixture.process, 700.0, 600.0
    x = {"y": double(3, 1), "c": torch.tensor([[0], [1], [2]])}
    x_next = {"y": double(3, 1, seed=1), "c": torch.tensor([[1], [1], [0]])}

    def model(state, level):
        return predict(mixture, process, state, level, None)

    found = log_density(sampler.transitions(process, model, x, x_next, t, t_next), x_next)
    first = model(x, t)
    low, high = torch.full((3,), t_next).double(), torch.full((3,), t).double()
    posterior = process.paths["c"].posterior(x["c"], first["c"].probabilities, low, high)
    of_class = posterior.gather(-1, x_next["c"][..., None])[:, 0, 0].log()
    later = first["y"]
    if isinstance(sampler, Interleaved):
        later = model(x | {"c": x_next["c"]}, {"y": t, "c": t_next})["y"]
    (alpha_s, sigma_s), (alpha_t, sigma_t) = (process.schedule.at(level) for level in (t_next, t))
    std = math.sqrt(sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2) * sigma_s / sigma_t
    mean = alpha_s * later.x_0 + math.sqrt(sigma_s**2 - std**2) * later.epsilon
    of_number = Normal(mean[:, 0], std).log_prob(x_next["y"][:, 0])
    torch.testing.assert_close(found, of_class + of_number)


def test_which_steps_have_a_density():
    gaussian = Process(GaussianPath(Cosine()))
    mixed = Process({"y": GaussianPath(Cosine()), "c": CategoricalPath(Cosine(), 3)})
    flow = Process(GaussianPath(RectifiedFlow()))
    assert DDPM(4).drawn_steps(gaussian) == [2, 3, 4]  # the last one, to the data, draws nothing
    assert DDIM(4, eta=0.1).drawn_steps(flow) == [2, 3, 4]
    assert Interleaved(4).drawn_steps(mixed) == [1, 2, 3, 4]
    assert DDIM(4).drawn_steps(mixed) == [1, 2, 3, 4]  # its classes are drawn at every eta
    assert FlowSDE(4).drawn_steps(flow) == [1, 2, 3, 4]
    for sampler in (DDIM(4), Euler(4), Heun(4), EulerInTime(4)):
        assert sampler.drawn_steps(gaussian) == []


@pytest.mark.parametrize("sampler", [Heun(4), EulerInTime(4)])
def test_a_step_without_a_density_says_which_have_one(sampler):
    process = Process(GaussianPath(RectifiedFlow()))
    with pytest.raises(SettingsError, match=rf"{type(sampler).__name__}.*choose DDPM, DDIM.*FlowSDE"):
        sampler.transitions(process, None, {}, {}, 1.0, 0.5)


def test_flow_sde_is_refused_where_there_is_no_flow():
    with pytest.raises(SettingsError, match="levels one by one"):
        FlowSDE(4).drawn_steps(Process(GaussianPath(Cosine())))
    mixed = Process({"y": GaussianPath(RectifiedFlow()), "c": CategoricalPath(RectifiedFlow(), 3)})
    with pytest.raises(SettingsError, match="c has some"):
        FlowSDE(4).drawn_steps(mixed)
    with pytest.raises(ValueError, match="noise=0"):
        FlowSDE(4, noise=0.0)


@pytest.mark.parametrize(("t", "t_next"), [(1.0, 0.8), (0.5, 0.25), (0.25, 0.0)])
def test_flow_sde_takes_the_published_step(t, t_next):
    """x (1 + s^2 dt / 2t) + v (1 + s^2 (1 - t) / 2t) dt, and s sqrt(-dt) of noise, s = .7 sqrt(t / (1 - t))."""
    process, x, v = Process(GaussianPath(RectifiedFlow())), double(4, 3), double(4, 3, seed=1)
    model = ModuleDenoiser(lambda *_: v, "flow")
    found = FlowSDE(4).transitions(
        process, lambda state, level: predict(model, process, state, level, None), {"x": x}, {"x": x}, t, t_next
    )["x"]
    dt, s = t_next - t, 0.7 * math.sqrt(t / (1 - (t_next if t == 1 else t)))
    mean = x * (1 + s**2 / (2 * t) * dt) + v * (1 + s**2 * (1 - t) / (2 * t)) * dt
    torch.testing.assert_close(found.mean, mean)
    assert found.std == pytest.approx(s * math.sqrt(-dt))


FLOWS = pytest.mark.parametrize("schedule", [RectifiedFlow(), Trigonometric()], ids=["linear", "trigonometric"])
MEAN, VARIANCE = (torch.tensor(values["left"], dtype=torch.float64) for values in (MEANS, VARIANCES))


@FLOWS
@pytest.mark.parametrize("noise", [0.3, 0.7, 1.5])
def test_flow_sde_keeps_the_marginals_of_the_flow_between_two_levels(schedule, noise):
    """From x_0.8 of a Gaussian to x_0.2, moments exactly computed: the error is of the first order in the step."""
    path = GaussianPath(schedule)
    process, model = Process(path), ModuleDenoiser(GaussianNetwork(path, "flow"), "flow")
    (alpha, sigma), (alpha_end, sigma_end) = schedule.at(0.8), schedule.at(0.2)
    off = []
    for steps in (100, 200):
        given = ImpulseNoise(steps + 1)
        start = alpha * MEAN + (alpha**2 * VARIANCE + sigma**2).sqrt() * given.normal(2)
        sampler = FlowSDE(steps, noise)
        level = min(sampler.levels(process), key=lambda t: abs(t - 0.2))
        condition = torch.ones(len(given), dtype=torch.int64)
        end = sampler.resume(model, process, condition, given, start, 0.8, keep=[level]).states[level].detach()
        mean, variance = end[0], (end[1:] - end[0]).square().sum(0)
        off.append(torch.stack([mean - alpha_end * MEAN, variance - alpha_end**2 * VARIANCE - sigma_end**2]))
    assert off[0].abs().max() < 0.02
    torch.testing.assert_close(off[1], off[0] / 2, atol=5e-5, rtol=0.1)


@FLOWS
@pytest.mark.parametrize("noise", [0.3, 0.7, 1.5])
def test_flow_sde_arrives_at_the_data(schedule, noise):
    """More slowly: at t = 1, where nothing is left of the signal, g is infinite, and the first step is long."""
    path = GaussianPath(schedule)
    process, model = Process(path), ModuleDenoiser(GaussianNetwork(path, "flow"), "flow")
    mean, variance = exact_moments(FlowSDE(400, noise), model, process, condition=1)
    torch.testing.assert_close(mean, MEAN, atol=0.002, rtol=0)
    torch.testing.assert_close(variance, VARIANCE, atol=0.011, rtol=0)
