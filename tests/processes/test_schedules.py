"""Schedules: diffusers' constants, the data at level 0, decreasing signal (Eq. 1)."""

import math

import pytest
import torch
from diffusers import DDIMScheduler

from graft_lightning.processes.schedules import (
    Cosine,
    FromTable,
    Linear,
    Polynomial2,
    RectifiedFlow,
    ScaledLinear,
    Schedule,
)

TABLES = [Linear(), ScaledLinear(), Cosine(), Polynomial2(), FromTable([0.9, 0.5, 0.1]), Linear(20, 0.001, 0.5)]
ALL = [*TABLES, RectifiedFlow()]


def name(schedule: Schedule) -> str:
    return f"{type(schedule).__name__}-{schedule.t_max:g}"


@pytest.mark.parametrize(
    ("ours", "config"),
    [
        (Linear(), {"beta_schedule": "linear"}),
        (Linear(500, 0.001, 0.01), {"beta_schedule": "linear", "num_train_timesteps": 500, "beta_start": 0.001,
                                    "beta_end": 0.01}),
        (ScaledLinear(), {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
        (Cosine(), {"beta_schedule": "squaredcos_cap_v2"}),
    ],
    ids=["linear", "linear-500", "scaled_linear", "squaredcos_cap_v2"],
)  # fmt: skip
def test_table_is_the_one_of_diffusers(ours, config):
    published = DDIMScheduler(**config).alphas_cumprod.double()
    t = torch.arange(1, len(published) + 1)
    alpha, sigma = ours.alpha_sigma(t)
    torch.testing.assert_close(alpha**2, published, rtol=1e-14, atol=0)
    torch.testing.assert_close(sigma**2, 1 - published, rtol=1e-14, atol=1e-16)


def test_linear_first_entry_is_by_hand():
    alpha, sigma = Linear(1000, 0.0001, 0.02).alpha_sigma(torch.tensor([1, 2]))
    betas = [0.0001, 0.0001 + (0.02 - 0.0001) / 999]
    expected = torch.tensor([1 - betas[0], (1 - betas[0]) * (1 - betas[1])], dtype=torch.float64)
    torch.testing.assert_close(alpha**2, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("steps", [1000, 10])
def test_polynomial_2_against_a_loop(steps):
    precision, kept, previous = 1e-5, 1.0, 1.0
    table = []
    for i in range(steps + 1):
        raw = (1 - (i / steps) ** 2) ** 2
        kept *= min(max(raw / previous, 0.001), 1.0)
        previous = raw
        table.append((1 - 2 * precision) * kept + precision)
    alpha, _ = Polynomial2(steps).alpha_sigma(torch.arange(1, steps + 1))
    torch.testing.assert_close(alpha**2, torch.tensor(table[1:], dtype=torch.float64), rtol=1e-12, atol=0)
    assert float(alpha[-1]) ** 2 < 2e-5 * 10 / steps * 1000


@pytest.mark.parametrize("schedule", ALL, ids=name)
def test_level_0_is_the_data(schedule):
    alpha, sigma = schedule.alpha_sigma(torch.zeros(3))
    assert alpha.tolist() == [1.0] * 3
    assert sigma.tolist() == [0.0] * 3
    assert schedule.log_snr(torch.tensor([0.0])).item() == math.inf


@pytest.mark.parametrize("schedule", ALL, ids=name)
def test_signal_to_noise_falls_strictly(schedule):
    t = torch.arange(schedule.t_max + 1) if schedule.discrete else torch.linspace(0, 1, 501, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t)
    assert alpha.dtype == sigma.dtype == torch.float64
    log_snr = schedule.log_snr(t)
    assert (log_snr[1:] < log_snr[:-1]).all()
    torch.testing.assert_close(log_snr[1:-1], (alpha / sigma).log()[1:-1])


def test_rectified_flow_is_the_straight_path():
    t = torch.tensor([0.0, 0.25, 1.0])
    alpha, sigma = RectifiedFlow().alpha_sigma(t)
    assert alpha.tolist() == [1.0, 0.75, 0.0]
    assert sigma.tolist() == [0.0, 0.25, 1.0]
    assert RectifiedFlow().log_snr(torch.tensor([1.0])).item() == -math.inf


def test_from_table_gives_its_table():
    alpha, _ = FromTable([0.81, 0.25, 0.0]).alpha_sigma(torch.tensor([0, 1, 2, 3]))
    torch.testing.assert_close(alpha, torch.tensor([1.0, 0.9, 0.5, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(0), "num_train_timesteps=0"),
        (lambda: FromTable([0.5, 0.5]), "alphas_cumprod"),
        (lambda: FromTable([1.5, 0.5]), "alphas_cumprod"),
        (lambda: FromTable([0.5, -0.1]), "alphas_cumprod"),
        (lambda: Linear().alpha_sigma(torch.tensor([1001])), r"1001.*outside \[0, 1000\]"),
        (lambda: Linear().alpha_sigma(torch.tensor([-1])), r"-1.*outside \[0, 1000\]"),
        (lambda: RectifiedFlow().alpha_sigma(torch.tensor([1.5])), r"1.5.*outside \[0, 1\]"),
    ],
)
def test_wrong_settings_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
