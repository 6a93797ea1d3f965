import math

import pytest
import torch

from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import Euler
from graft_lightning.processes.schedules import Cosine, RectifiedFlow, Trigonometric
from graft_lightning.processes.velocity import EulerInTime


class Wavy(Denoiser):
    """Some velocity that depends on state and time."""

    def __init__(self, output: str, factor: float = 1.0) -> None:
        self.output, self.factor = output, factor

    def __call__(self, x_t, t, condition):
        return self.factor * torch.sin(x_t + t.to(x_t)[:, None])


def sampled(sampler, denoiser, schedule):
    process = Process(GaussianPath(schedule))
    return sampler.sample(denoiser, process, None, Noise(torch.arange(5), dtype=torch.float64), (3,)).x_0


def start():
    return Noise(torch.arange(5), dtype=torch.float64).normal(3)


def test_on_a_rectified_flow_it_is_euler():
    flow = Wavy("flow")
    torch.testing.assert_close(
        sampled(EulerInTime(7), flow, RectifiedFlow()), sampled(Euler(7), flow, RectifiedFlow()), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_where_the_velocity_is_zero_nothing_moves_and_euler_shrinks(steps):
    still = Wavy("v_prediction", factor=0.0)
    torch.testing.assert_close(sampled(EulerInTime(steps), still, Trigonometric()), start(), rtol=0, atol=1e-14)
    shrunk = start() * math.cos(math.pi / 2 / steps) ** steps
    torch.testing.assert_close(sampled(Euler(steps), still, Trigonometric()), shrunk, rtol=0, atol=1e-14)


def test_steps_follow_the_velocity_of_the_path():
    denoiser = Wavy("v_prediction")
    x = start()
    for k in range(4, 0, -1):
        x = x - math.pi / 2 / 4 * denoiser(x, torch.full((5,), k / 4), None)
    torch.testing.assert_close(sampled(EulerInTime(4), denoiser, Trigonometric()), x, rtol=0, atol=1e-12)


def test_many_steps_reach_what_euler_reaches():
    denoiser = Wavy("v_prediction")
    ours, theirs = (sampled(sampler(4000), denoiser, Trigonometric()) for sampler in (EulerInTime, Euler))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)


@pytest.mark.parametrize("schedule", [RectifiedFlow(), Trigonometric()], ids=["rectified", "trigonometric"])
def test_derivatives_are_those_of_alpha_and_sigma(schedule):
    t, h = torch.linspace(0.01, 0.99, 9, dtype=torch.float64), 1e-6
    above, below = schedule.alpha_sigma(t + h), schedule.alpha_sigma(t - h)
    for found, high, low in zip(schedule.derivatives(t), above, below, strict=True):
        torch.testing.assert_close(found, (high - low) / (2 * h), rtol=1e-8, atol=1e-8)


def test_a_table_has_no_derivative():
    with pytest.raises(TypeError, match="Cosine"):
        sampled(EulerInTime(3), Wavy("v_prediction"), Cosine())


def test_the_trigonometric_path_preserves_variance_and_ends_in_noise():
    alpha, sigma = Trigonometric().alpha_sigma(torch.linspace(0, 1, 11))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(11, dtype=torch.float64))
    assert (alpha[0], sigma[0], alpha[-1], sigma[-1]) == (1, 0, 0, 1)
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        Trigonometric().alpha_sigma(torch.tensor(1.01))
