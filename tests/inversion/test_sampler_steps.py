import pytest
import torch

from graft_lightning.inversion.inverted_state import invert_state
from graft_lightning.inversion.likelihood import map_log_density, standard_normal_log_density
from graft_lightning.inversion.sampler_steps import SamplerSteps
from graft_lightning.inversion.steps import FlowSteps
from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM, Euler, Heun
from graft_lightning.processes.schedules import Cosine, RectifiedFlow, Trigonometric
from graft_lightning.processes.velocity import EulerInTime

FLOW = Process(GaussianPath(RectifiedFlow()))
PRESERVING = Process(GaussianPath(Trigonometric()))


class Linear(Denoiser):
    """The raw output x A^T, the same at all times."""

    def __init__(self, output: str, dtype: torch.dtype = torch.float64) -> None:
        self.output = output
        self.matrix = 0.5 * torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)

    def __call__(self, x_t, t, condition):
        assert len(condition) == len(x_t)
        return x_t @ self.matrix.T


def steps(sampler, process, output, dtype=torch.float64):
    return SamplerSteps(sampler, process, Linear(output, dtype), lambda count: torch.zeros(count, 0))


def noise(dtype=torch.float64):
    return Noise(torch.arange(6), dtype=dtype).normal(3)


@pytest.mark.parametrize(
    ("sampler", "process", "output"),
    [
        (Euler(5), FLOW, "flow"),
        (Heun(5), FLOW, "flow"),
        (DDIM(5), PRESERVING, "v_prediction"),
        (EulerInTime(5), PRESERVING, "v_prediction"),
        (Heun(4), PRESERVING, "v_prediction"),
    ],
    ids=["euler", "heun", "ddim", "euler in time", "heun of a preserving path"],
)
def test_steps_are_those_that_sampling_takes_bit_by_bit(sampler, process, output):
    found = steps(sampler, process, output)
    condition = torch.zeros(6, 0)
    sampled = sampler.sample(found.denoiser, process, condition, Noise(torch.arange(6), dtype=torch.float64), (3,)).x_0
    assert torch.equal(found.generate(noise()), sampled)
    back = invert_state(found, sampled)
    assert back.converged.all()
    torch.testing.assert_close(back.noise, noise(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("sampler", "method"), [(Euler(6), "euler"), (Heun(6), "heun")])
def test_on_a_rectified_flow_they_are_the_steps_of_the_velocity(sampler, method):
    found = steps(sampler, FLOW, "flow")
    matrix = found.denoiser.matrix
    direct = FlowSteps(lambda x, t: x @ matrix.T, 6, method)
    assert found.levels == direct.levels
    assert found.evaluations == direct.evaluations
    torch.testing.assert_close(found.generate(noise()), direct.generate(noise()), rtol=0, atol=1e-13)


def test_the_density_of_a_corrector_is_that_of_its_map():
    """A linear map of N(0, I) has a density in closed form."""
    found = steps(EulerInTime(3), PRESERVING, "v_prediction")
    step = torch.eye(3, dtype=torch.float64) - torch.pi / 2 / 3 * found.denoiser.matrix
    whole = step @ step @ step
    x = noise() @ whole.T
    density = map_log_density(found, x)
    assert density.known.all()
    expected = standard_normal_log_density(noise()) - torch.linalg.slogdet(whole)[1]
    torch.testing.assert_close(density.log_density, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("sampler", "process", "words"),
    [
        (DDPM(5), FLOW, "DDPM draws noise"),
        (DDIM(5, eta=0.5), FLOW, "draws noise"),
        (Euler(5, clip_sample=1.0), FLOW, "clips has no inverse"),
        (Euler(5), Process(GaussianPath(Cosine())), "from 0, the data, to 1"),
    ],
)
def test_what_has_no_inverse_is_refused(sampler, process, words):
    with pytest.raises(ValueError, match=words):
        steps(sampler, process, "flow")


@pytest.mark.parametrize("k", [0, 6])
def test_there_is_no_step_outside(k):
    found = steps(Euler(5), FLOW, "flow")
    for take in (found.step, found.increment):
        with pytest.raises(ValueError, match="1 to 5"):
            take(noise(), k)
