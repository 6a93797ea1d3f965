"""The step maps, and that they are those of the samplers."""

import pytest
import torch

from graft_lightning.inversion.steps import FlowSteps
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import Euler, Heun
from graft_lightning.processes.schedules import RectifiedFlow
from tests.fakes import ModuleDenoiser
from tests.inversion.fields import LinearField, normals


@pytest.mark.parametrize("method", ["euler", "heun"])
@pytest.mark.parametrize("steps", [4, [0, 0.1, 0.3, 0.6, 1]])
def test_steps_are_the_matrices_of_a_linear_field(method, steps):
    field = LinearField(normals(3, 3), offset=0.7)
    flow = FlowSteps(field, steps, method)
    x = normals(5, 3, seed=1)
    for k in range(1, 5):
        matrix, offset = field.step(flow.levels, k, method)
        torch.testing.assert_close(flow.step(x, k), x @ matrix.T + offset)


@pytest.mark.parametrize(("method", "times"), [("euler", [1, 2 / 3, 1 / 3]), ("heun", [1, 2 / 3, 2 / 3, 1 / 3, 1 / 3])])
def test_the_velocity_is_read_on_the_grid_and_never_at_the_data(method, times):
    field = LinearField(normals(2, 2))
    flow = FlowSteps(field, 3, method)
    flow.generate(normals(4, 2))
    assert field.times == times
    assert flow.evaluations == len(times)


@pytest.mark.parametrize(("method", "sampler"), [("euler", Euler), ("heun", Heun)])
def test_the_steps_are_those_of_the_samplers(method, sampler):
    def velocity(x, t):
        return torch.sin(3 * x) + t.reshape(-1, 1) * x.flip(1)

    process = Process(GaussianPath(RectifiedFlow()))
    denoiser = ModuleDenoiser(lambda x, t, condition: velocity(x, t), output="flow")
    z = normals(6, 4)
    expected = sampler(steps=7).resume(denoiser, process, None, Noise(torch.arange(6)), z, 1.0, keep=[2 / 7])
    flow = FlowSteps(velocity, 7, method)
    torch.testing.assert_close(flow.generate(z), expected.x_0)
    torch.testing.assert_close(flow.generate(z, stop_level=2), expected.states[2 / 7])
    assert flow.evaluations == expected.evaluations


def test_time_is_given_in_full_precision_to_states_of_little():
    seen = []
    FlowSteps(lambda x, t: seen.append(t) or x, 3).generate(torch.zeros(2, 1, dtype=torch.bfloat16))
    assert [t.tolist() for t in seen] == [[k / 3] * 2 for k in (3, 2, 1)]


@pytest.mark.parametrize("steps", [0, [0.0], [0, 0.5], [0.1, 1], [0, 0.5, 0.5, 1], [0, 0.6, 0.4, 1]])
def test_a_grid_that_is_none_is_refused(steps):
    with pytest.raises(ValueError, match=r"steps=0|levels"):
        FlowSteps(lambda x, t: x, steps)


def test_steps_and_levels_out_of_range_are_refused():
    flow = FlowSteps(lambda x, t: x, 3)
    with pytest.raises(ValueError, match="method='rk4'"):
        FlowSteps(lambda x, t: x, 3, "rk4")
    for k in (0, 4):
        with pytest.raises(ValueError, match="1 to 3"):
            flow.step(torch.zeros(1, 1), k)
    with pytest.raises(ValueError, match="stop_level=4"):
        flow.generate(torch.zeros(1, 1), 4)
