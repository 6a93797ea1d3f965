"""Samplers against diffusers' schedulers, step by step, with the same noise."""

import diffusers.schedulers.scheduling_ddpm as ddpm_module
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from graft_lightning.processes.grids import Leading, Linspace, Shifted, Uniform
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM, Euler
from graft_lightning.processes.schedules import Cosine, RectifiedFlow, ScaledLinear
from tests.fakes import ModuleDenoiser

SHAPE = (3, 4, 4)
SEEDS = torch.arange(2)
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
WEIGHT = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(x: Tensor, level: Tensor) -> Tensor:
    """Any smooth function of state and level."""
    mixed = torch.einsum("ij,bjhw->bihw", WEIGHT, x)
    return torch.tanh(mixed + level.reshape(-1, 1, 1, 1) / 1000) + 0.1 * x


def our_states(sampler, schedule, output, network=network) -> tuple[list[float], dict[float, Tensor]]:
    process = Process(GaussianPath(schedule))
    denoiser = ModuleDenoiser(lambda x, t, condition: network(x, t), output)
    levels = sampler.levels(process)
    noise = Noise(SEEDS, dtype=torch.float64)
    return levels, sampler.sample(denoiser, process, None, noise, SHAPE, keep=levels).states


def their_states(scheduler, start: Tensor, step) -> list[Tensor]:
    """States from noise to data, level t being network timestep t - 1."""
    states = [start]
    for timestep in scheduler.timesteps:
        raw = network(states[-1], torch.full((2,), float(timestep) + 1))
        states.append(step(raw, timestep, states[-1]))
    return states


def same_noise() -> Noise:
    """The trajectories' stream, wound on past their starting noise."""
    noise = Noise(SEEDS, dtype=torch.float64)
    noise.normal(*SHAPE)
    return noise


def compare(levels: list[float], ours: dict[float, Tensor], theirs: list[Tensor]) -> None:
    assert len(levels) == len(theirs)
    for level, state in zip(reversed(levels), theirs, strict=True):
        torch.testing.assert_close(ours[level], state, rtol=1e-5, atol=1e-5, msg=lambda m, t=level: f"level {t}: {m}")


DDIM_CASES = {
    # name: (our grid, steps, scheduler config); linspace where every step is taken, for DDIM's previous timestep there
    # is t - T // N, which is on its own linspace grid only then
    "trailing": (Uniform(), 10, {"timestep_spacing": "trailing", "set_alpha_to_one": True}),
    "leading": (Leading(0, True), 10, {"timestep_spacing": "leading", "set_alpha_to_one": True}),
    "stable-diffusion": (
        Leading(1, False),
        10,
        {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False},
    ),
    "linspace": (Linspace(), 40, {"timestep_spacing": "linspace", "num_train_timesteps": 40}),
}


@pytest.mark.parametrize("case", DDIM_CASES.values(), ids=DDIM_CASES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("output", ["epsilon", "sample", "v_prediction"])
def test_ddim(case, eta, output):
    grid, steps, config = case
    schedule = ScaledLinear(config.get("num_train_timesteps", 1000))
    levels, ours = our_states(DDIM(steps, eta, grid), schedule, output)
    scheduler = DDIMScheduler(**SD, **config, prediction_type=output, clip_sample=False)
    scheduler.set_timesteps(steps)
    noise = same_noise()

    def step(raw, timestep, x):
        drawn = noise.normal(*SHAPE) if eta else None
        return scheduler.step(raw, timestep, x, eta=eta, variance_noise=drawn).prev_sample

    compare(levels, ours, their_states(scheduler, ours[levels[-1]], step))


DDPM_CASES = {
    "trailing": (Uniform(), {"timestep_spacing": "trailing"}),
    "leading": (Leading(0, True), {"timestep_spacing": "leading"}),
    "leading-offset": (Leading(1, True), {"timestep_spacing": "leading", "steps_offset": 1}),
    "linspace": (Linspace(), {"timestep_spacing": "linspace"}),
}


@pytest.mark.parametrize("case", DDPM_CASES.values(), ids=DDPM_CASES)
@pytest.mark.parametrize("output", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("clip", [None, 0.8])
def test_ddpm(case, output, clip, monkeypatch):
    grid, config = case
    levels, ours = our_states(DDPM(10, grid, clip), Cosine(), output)
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type=output,
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
        **config,
    )
    scheduler.set_timesteps(10)
    noise = same_noise()
    monkeypatch.setattr(ddpm_module, "randn_tensor", lambda shape, **_: noise.normal(*shape[1:]))
    states = their_states(scheduler, ours[levels[-1]], lambda *args: scheduler.step(*args).prev_sample)
    compare(levels, ours, states)


def test_ddim_with_clipping():
    levels, ours = our_states(DDIM(10, clip_sample=0.8), Cosine(), "v_prediction")
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        timestep_spacing="trailing",
        prediction_type="v_prediction",
        clip_sample=True,
        clip_sample_range=0.8,
    )
    scheduler.set_timesteps(10)
    states = their_states(
        scheduler, ours[levels[-1]], lambda *args: scheduler.step(*args, use_clipped_model_output=True).prev_sample
    )
    compare(levels, ours, states)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_of_flows(shift):
    sampler = Euler(10, Shifted(shift) if shift != 1 else None)
    levels, ours = our_states(sampler, RectifiedFlow(), "flow", lambda x, t: network(x, 1000 * t))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.1, 10))
    states = [ours[1.0]]
    for timestep in scheduler.timesteps:
        raw = network(states[-1], timestep.expand(2))
        states.append(scheduler.step(raw, timestep, states[-1]).prev_sample.double())
    compare(levels, ours, states)
