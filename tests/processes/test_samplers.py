"""Samplers with the exact score of a Gaussian: right moments at the right order; kept states; whose noise is whose.

The denoiser is linear, so x_0 is an affine function of the noise, and moments are computed from its coefficients (see
`fakes.exact_moments`): nothing here is Monte Carlo.
"""

import math

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.processes.denoiser import Guided
from graft_lightning.processes.grids import Explicit, Uniform
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM, Euler, Heun
from graft_lightning.processes.schedules import Cosine, RectifiedFlow
from tests.fakes import (
    MEANS,
    OUTPUTS,
    VARIANCES,
    GaussianNetwork,
    ImpulseNoise,
    ModuleDenoiser,
    Recorder,
    exact_moments,
)

FLOW, VP = GaussianPath(RectifiedFlow()), GaussianPath(Cosine())
FINE = GaussianPath(Cosine(20_000))
"""So many levels that the rounding of levels to integers does not hide a sampler's order."""
LEFT = 1
MEAN = torch.tensor(MEANS["left"], dtype=torch.float64)
VARIANCE = torch.tensor(VARIANCES["left"], dtype=torch.float64)
SAMPLERS = {
    "ddpm": lambda steps: DDPM(steps),
    "ddim-0": lambda steps: DDIM(steps, 0.0),
    "ddim-0.5": lambda steps: DDIM(steps, 0.5),
    "ddim-1": lambda steps: DDIM(steps, 1.0),
    "euler": lambda steps: Euler(steps),
    "heun": lambda steps: Heun(steps),
}


def exact(path, output="v_prediction"):
    return ModuleDenoiser(GaussianNetwork(path, output), output)


def errors(sampler, path, output="v_prediction"):
    """Largest error of mean and of variance, in standard deviations and in parts of the variance."""
    with torch.no_grad():
        mean, variance = exact_moments(sampler, exact(path, output), Process(path), LEFT)
    return ((mean - MEAN) / VARIANCE.sqrt()).abs().max().item(), (variance / VARIANCE - 1).abs().max().item()


@pytest.mark.parametrize("path", [FLOW, FINE], ids=["flow", "vp"])
@pytest.mark.parametrize(
    "make", [SAMPLERS[k] for k in SAMPLERS if k != "heun"], ids=[k for k in SAMPLERS if k != "heun"]
)
def test_moments_are_right_as_steps_grow(path, make):
    """At 160 steps within 5 %; at 4 times fewer the error is larger by the sampler's order, 1."""
    coarse, fine = (max(errors(make(steps), path)) for steps in (40, 160))
    assert fine < 5e-2
    assert 0.7 < math.log(coarse / fine, 4) < 1.3


@pytest.mark.parametrize("path", [FLOW, FINE], ids=["flow", "vp"])
def test_heun_is_of_order_2(path):
    """On levels that crowd near the data: sigma of a VP table rises like a root there, and the last step is Euler's."""
    coarse, fine = (max(errors(Heun(steps, Uniform(2.0)), path)) for steps in (20, 80))
    assert fine < 2e-3
    assert 1.7 < math.log(coarse / fine, 4) < 2.4
    euler = max(errors(Euler(80, Uniform(2.0)), path))
    assert fine < euler / 10


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
def test_every_output_type_samples_alike(make):
    reference = exact_moments(make(10), exact(VP, "epsilon"), Process(VP), LEFT)
    for output in OUTPUTS[1:]:
        found = exact_moments(make(10), exact(VP, output), Process(VP), LEFT)
        torch.testing.assert_close(found, reference, rtol=1e-6, atol=1e-6)


def test_ddpm_step_is_the_gaussian_posterior():
    """One step of DDPM from a given x_t: mean and variance of q(x_s | x_t, x_0) by completing the square (Eq. 2)."""
    for path, (s, t) in ((VP, (300.0, 700.0)), (FLOW, (0.4, 0.9))):
        times = torch.tensor([s, t], dtype=torch.float64)
        (alpha_s, sigma_s) = (values[:1] for values in path.alpha_sigma(times))
        kernel = path.kernel(times[:1], times[1:])
        x_t, x_0 = torch.tensor([[0.7, -0.3]]).double(), torch.tensor([[0.2, 1.1]]).double()
        precision = 1 / sigma_s**2 + (kernel.alpha / kernel.sigma) ** 2
        mean = (alpha_s * x_0 / sigma_s**2 + kernel.alpha * x_t / kernel.sigma**2) / precision
        process, denoiser = Process(path), ModuleDenoiser(lambda x, t, c, x_0=x_0: x_0.expand_as(x), "sample")
        sampler, noise = DDPM(2, Explicit([0.0, s, t])), ImpulseNoise(1)
        trajectory = sampler.resume(denoiser, process, None, noise, x_t.expand(2, 2), t, keep=[s])
        found = trajectory.states[s]
        torch.testing.assert_close(found[:1], mean)
        torch.testing.assert_close(found[1] - found[0], precision.rsqrt().expand(2))


def test_ddim_interpolates_between_euler_and_ddpm():
    _, none = exact_moments(DDIM(6, 0.0), exact(FLOW), Process(FLOW), LEFT)
    _, euler = exact_moments(Euler(6), exact(FLOW), Process(FLOW), LEFT)
    _, full = exact_moments(DDIM(6, 1.0), exact(FLOW), Process(FLOW), LEFT)
    _, ddpm = exact_moments(DDPM(6), exact(FLOW), Process(FLOW), LEFT)
    assert torch.equal(none, euler)
    assert torch.equal(full, ddpm)
    assert (none - full).abs().min() > 1e-3


def test_euler_of_a_flow_is_euler_by_hand():
    denoiser, x = exact(FLOW, "flow"), torch.tensor([[0.3, -2.0]]).double()
    start = x
    for k in range(5, 0, -1):
        x = x - denoiser(x, torch.tensor([k / 5]).double(), torch.tensor([LEFT])) / 5
    found = Euler(5).resume(denoiser, Process(FLOW), torch.tensor([LEFT]), Noise(torch.zeros(1)), start, 1.0)
    torch.testing.assert_close(found.x_0, x)


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
def test_stochastic_says_whether_noise_is_drawn(make):
    denoiser, x = exact(VP), torch.zeros(1, 2, dtype=torch.float64)
    arguments = (denoiser, Process(VP), torch.tensor([LEFT]))
    ends = [make(4).resume(*arguments, Noise(torch.tensor([k]), dtype=torch.float64), x, 1000.0).x_0 for k in (0, 1)]
    assert make(4).stochastic(Process(VP)) == (not torch.equal(*ends))


def test_clip_bounds_the_sample():
    wild = ModuleDenoiser(lambda x, t, c: 50 * torch.ones_like(x), "sample")
    noise = Noise(torch.arange(3))
    x_0 = DDPM(5, clip_sample=1.0).sample(wild, Process(VP), None, noise, (2,)).x_0
    torch.testing.assert_close(x_0, torch.ones(3, 2))


def test_evaluations_are_counted():
    for sampler, expected in ((DDPM(7), 7), (DDIM(1), 1), (Heun(7), 13), (Heun(1), 1)):
        recorder = Recorder(exact(VP))
        trajectory = sampler.sample(recorder, Process(VP), torch.tensor([LEFT]), Noise(torch.zeros(1)), (2,))
        assert trajectory.evaluations == len(recorder.levels) == expected


class TestKeptStates:
    grid = (0.0, 250.0, 500.0, 750.0, 1000.0)

    def run(self, sampler, noise, keep=(250.0, 1000.0)):
        return sampler.sample(exact(VP), Process(VP), torch.tensor([LEFT, 2]), noise, (2,), keep=keep)

    def test_levels_are_those_of_the_grid(self):
        assert tuple(DDIM(4).levels(Process(VP))) == self.grid

    def test_kept_states_change_nothing(self):
        seeds = torch.tensor([5, 6])
        with_states, without = (self.run(DDPM(4), Noise(seeds), keep) for keep in (self.grid, ()))
        assert sorted(with_states.states) == list(self.grid)
        assert without.states == {}
        assert torch.equal(with_states.x_0, without.x_0)
        assert torch.equal(with_states.x_0, with_states.states[0.0])

    def test_the_noisiest_state_is_the_prior(self):
        seeds = torch.tensor([5, 6])
        states = self.run(DDPM(4), Noise(seeds)).states
        assert torch.equal(states[1000.0], Process(VP).prior((2,), Noise(seeds)))

    @pytest.mark.parametrize("sampler", [DDIM(4), Heun(4), DDPM(4), DDIM(4, 0.5)], ids=["ddim", "heun", "ddpm", "half"])
    def test_resume_is_the_tail(self, sampler):
        """From each kept state, with the trajectory's own stream wound on to that place."""
        seeds = torch.tensor([5, 6])
        whole = self.run(sampler, Noise(seeds), self.grid)
        for n, level in enumerate(self.grid[1:], 1):
            noise = Noise(seeds)
            for _ in range(1 + (4 - n if sampler.stochastic(Process(VP)) else 0)):
                noise.normal(2)
            tail = sampler.resume(
                exact(VP), Process(VP), torch.tensor([LEFT, 2]), noise, whole.states[level], level, self.grid[: n + 1]
            )
            torch.testing.assert_close(tail.x_0, whole.x_0)
            for kept, state in tail.states.items():
                torch.testing.assert_close(state, whole.states[kept])
            assert tail.evaluations == (2 * n - 1 if isinstance(sampler, Heun) else n)

    def test_resume_between_levels_steps_to_the_grid(self):
        recorder = Recorder(exact(VP))
        x = torch.zeros(1, 2)
        DDIM(4).resume(recorder, Process(VP), torch.tensor([LEFT]), Noise(torch.zeros(1)), x, 600.0)
        assert recorder.levels == [600.0, 500.0, 250.0]

    def test_a_level_off_the_grid_is_refused_and_the_grid_listed(self):
        with pytest.raises(ValueError, match=r"\[300\.0\].*\[0\.0, 250\.0, 500\.0, 750\.0, 1000\.0\]"):
            self.run(DDIM(4), Noise(torch.arange(2)), keep=[300.0])


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
def test_a_trajectory_depends_neither_on_its_batch_nor_on_the_order(make):
    seeds, conditions = torch.arange(7) + 2**50, torch.tensor([1, 2, 1, 2, 0, 1, 2])
    null = lambda device: torch.zeros(1, dtype=torch.long)  # noqa: E731

    def run(rows):
        rows = torch.tensor(rows)
        plain = exact(VP)
        guided = Guided(plain, plain, 2.0, null, joint=True)
        return make(5).sample(guided, Process(VP), conditions[rows], Noise(seeds[rows]), (2,), keep=[400.0])

    whole = run(range(7))
    for rows in ([3], [6, 2, 4], [1, 0, 5]):
        part = run(rows)
        torch.testing.assert_close(part.x_0, whole.x_0[rows], rtol=0, atol=1e-5)
        torch.testing.assert_close(part.states[400.0], whole.states[400.0][rows], rtol=0, atol=1e-5)
    assert not torch.equal(whole.x_0[0], whole.x_0[2])  # the same condition, another seed


def test_mixed_state_has_the_distribution_of_its_blocks():
    """Independent blocks with exact denoisers: class frequencies, moments, and what is carried left alone."""
    weights = torch.tensor([0.2, 0.5, 0.3])
    path = GaussianPath(Cosine(50))
    process = Process({"y": path, "c": CategoricalPath(Cosine(50), 3)})
    network = GaussianNetwork(path, "epsilon", torch.float32)

    def denoise(x, t, condition):
        return {"y": network(x["y"], t, condition), "c": logits(process.paths["c"], x["c"], t)}

    def logits(path, c_t, t):
        """The exact p(c_0 | c_t) by Bayes' rule."""
        likelihood = path.kernel(torch.zeros_like(t), t).likelihood(c_t)
        return (likelihood * weights).log()

    count = 4000
    denoiser = ModuleDenoiser(denoise, {"y": "epsilon", "c": "logits"})
    carried = TensorDict({"number": torch.arange(count).reshape(-1, 1)}, [count])
    shape = {"y": (2,), "c": (2,)}
    condition = torch.full((count,), LEFT)
    trajectory = DDPM(50).sample(
        denoiser, process, condition, Noise(torch.arange(count)), shape, keep=[10.0], static=carried
    )
    assert torch.equal(trajectory.x_0["number"], carried["number"])
    assert torch.equal(trajectory.states[10.0]["number"], carried["number"])
    frequencies = trajectory.x_0["c"].flatten().bincount(minlength=3) / (2 * count)
    assert (frequencies - weights).abs().max() < 5 * (0.25 / (2 * count)) ** 0.5
    y = trajectory.x_0["y"].double()
    assert ((y.mean(0) - MEAN) / VARIANCE.sqrt()).abs().max() < 5 / count**0.5
    assert (y.var(0) / VARIANCE - 1).abs().max() < 5 * (2 / count) ** 0.5 + 0.06  # and the error of 50 steps


def test_solvers_refuse_classes_and_say_why():
    process = Process({"y": VP, "c": CategoricalPath(VP.schedule, 3)})
    raw = {"y": torch.zeros(1, 2), "c": torch.zeros(1, 2, 3)}
    denoiser = ModuleDenoiser(lambda x, t, condition: raw, {"y": "epsilon", "c": "logits"})
    with pytest.raises(TypeError, match="CategoricalPath jumps from class to class"):
        Heun(3).sample(denoiser, process, None, Noise(torch.arange(1)), {"y": (2,), "c": (2,)})


@pytest.mark.parametrize("make", [DDIM, Euler, Heun], ids=["ddim", "euler", "heun"])
def test_two_gaussian_fields_move_as_each_of_them_alone(make):
    """Each in its own output, and no sampler asks how many there are."""
    process = Process({"a": VP, "b": VP})
    x = {"a": torch.randn(3, 2).double(), "b": torch.randn(3, 4).double()}
    outputs = {"a": "epsilon", "b": "flow"}
    together = ModuleDenoiser(lambda x, t, c: {name: 0.3 * field for name, field in x.items()}, outputs)
    found = make(4).resume(together, process, None, Noise(torch.arange(3)), x, 1000.0).x_0
    assert found.keys() == x.keys()
    for name, output in outputs.items():
        alone = ModuleDenoiser(lambda x, t, c: 0.3 * x, output)
        expected = make(4).resume(alone, Process(VP), None, Noise(torch.arange(3)), x[name], 1000.0).x_0
        torch.testing.assert_close(found[name], expected)


class TestLevelsOfTraining:
    """What a sampler asks of its model, and what it says that it asks."""

    process = Process({"y": VP, "c": CategoricalPath(VP.schedule, 3)})

    def test_a_sampler_that_moves_all_fields_together(self):
        assert DDPM(2).training_levels(self.process) == [(1000.0, 1000.0), (500.0, 500.0)]
        assert Heun(2).training_levels(Process(VP)) == [(1000.0,), (500.0,)]

    def test_interleaved_names_both_calls_of_a_step(self):
        pairs = [(1000.0, 1000.0), (1000.0, 500.0), (500.0, 500.0), (500.0, 0.0)]
        assert Interleaved(2).training_levels(self.process) == pairs

    def test_a_call_that_a_sampler_does_not_list_is_refused(self):
        class Reversed(DDIM):
            """The Gaussian field moves first, and nobody was told."""

            def step(self, process, predict, x, t, t_next, noise, within):
                x = self.reversed(process, x, predict(x, t), t, t_next, noise, ["y"])
                return self.reversed(process, x, predict(x, {"y": t_next, "c": t}), t, t_next, noise, ["c"])

        raw = {"y": torch.zeros(1, 2), "c": torch.zeros(1, 2, 3)}
        denoiser = ModuleDenoiser(lambda x, t, condition: raw, {"y": "epsilon", "c": "logits"})
        with pytest.raises(RuntimeError, match=r"Reversed.step .*'y': 500.0, 'c': 1000.0.*training_levels"):
            Reversed(2).sample(denoiser, self.process, None, Noise(torch.arange(1)), {"y": (2,), "c": (2,)})


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: DDPM(0), "steps=0"), (lambda: DDIM(5, 1.5), r"eta=1\.5"), (lambda: DDIM(5, -1), "eta")],
)
def test_wrong_settings_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_grid_is_the_samplers_own():
    assert DDIM(2, grid=Uniform(2.0)).levels(Process(VP)) == [0.0, 250.0, 1000.0]
