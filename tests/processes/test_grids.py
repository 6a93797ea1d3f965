"""Grids: the levels of diffusers' spacings, the data first, increasing."""

import numpy as np
import pytest
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from graft_lightning.processes.grids import Explicit, Leading, Linspace, Shifted, Uniform
from graft_lightning.processes.schedules import Linear, RectifiedFlow


def timesteps(steps: int, **config) -> list[float]:
    scheduler = DDIMScheduler(**config)
    scheduler.set_timesteps(steps)
    return [t + 1.0 for t in reversed(scheduler.timesteps.tolist())]  # level t is network timestep t - 1


@pytest.mark.parametrize("steps", [1, 3, 7, 16, 40, 50, 1000])
def test_uniform_is_trailing(steps):
    levels = Uniform().levels(Linear(), steps)
    assert levels[0] == 0
    assert levels[1:] == timesteps(steps, timestep_spacing="trailing")


@pytest.mark.parametrize("steps", [1, 3, 7, 50])
@pytest.mark.parametrize("offset", [0, 1])
def test_leading_has_the_timesteps_of_diffusers(steps, offset):
    levels = Leading(steps_offset=offset, set_alpha_to_one=True).levels(Linear(), steps)
    assert levels[0] == 0
    assert levels[1:] == timesteps(steps, timestep_spacing="leading", steps_offset=offset)


def test_leading_of_stable_diffusion_ends_at_its_first_level():
    levels = Leading().levels(Linear(), 50)
    assert levels[:3] == [1.0, 2.0, 22.0]
    assert levels[-1] == 982.0


@pytest.mark.parametrize("steps", [2, 7, 50, 1000])
def test_linspace_has_the_timesteps_of_diffusers(steps):
    levels = Linspace().levels(Linear(), steps)
    assert levels[0] == 0
    assert levels[1:] == timesteps(steps, timestep_spacing="linspace")


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
def test_shifted_is_that_of_diffusers_from_even_levels(shift):
    """From sigmas n / N, as Flux passes them; left alone, diffusers' scheduler spreads N levels down to 1 / 1000."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / 8, 8))
    assert Shifted(shift).levels(RectifiedFlow(), 8) == pytest.approx(scheduler.sigmas.tolist()[::-1], abs=1e-6)


def test_power_crowds_levels_at_the_data():
    assert Uniform(2.0).levels(RectifiedFlow(), 4) == [0.0, 1 / 16, 1 / 4, 9 / 16, 1.0]
    assert Uniform(2.0).levels(Linear(), 4) == [0.0, 62.0, 250.0, 562.0, 1000.0]


def test_explicit_is_what_it_says():
    assert Explicit([0, 10, 500]).levels(Linear(), 2) == [0.0, 10.0, 500.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform().levels(Linear(20), 21), "steps=21"),
        (lambda: Uniform(0.0), "power=0"),
        (lambda: Linspace().levels(Linear(20), 21), "steps=21"),
        (lambda: Shifted(3.0).levels(Linear(), 5), "continuous"),
        (lambda: Shifted(0.0), "shift=0"),
        (lambda: Explicit([0, 500]).levels(Linear(), 3), "holds 2 levels; steps=3 needs 4"),
        (lambda: Explicit([0, 500, 10]), r"values=.*increase"),
        (lambda: Explicit([0, 500, 500]), r"values=.*increase"),
        (lambda: Leading(steps_offset=0).levels(Linear(), 10), "steps_offset=0"),
    ],
)
def test_wrong_settings_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
