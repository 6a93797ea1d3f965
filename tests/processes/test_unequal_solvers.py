"""Two continuous fields with schedules of their own: drift, excess and transport, and the solvers that use them."""

import math

import torch

from graft_lightning.processes.outputs import Classes, Prediction
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, Euler, Heun
from graft_lightning.processes.schedules import RectifiedFlow, Trigonometric
from graft_lightning.processes.velocity import EulerInTime
from tests.fakes import ModuleDenoiser
from tests.processes.known import (
    C,
    Given,
    Y,
    Z,
    numbers,
)

ROOT = math.sqrt(3) / 2
"""Of the trigonometric path: alpha, sigma are 1/2 and this at t = 2/3; at 1/3 they change places."""


def continuous():
    return Process({"a": GaussianPath(RectifiedFlow()), "b": GaussianPath(Trigonometric())})


def test_drift_excess_and_transport_have_each_fields_own_coefficients():
    a, b = continuous().paths["a"], continuous().paths["b"]
    x, x_0, epsilon = (numbers(3, 2, seed=k) for k in range(3))
    found, other = Prediction(x_0, epsilon), Prediction(epsilon, 2 * x_0)
    torch.testing.assert_close(a.drift(x, found, 2 / 3), epsilon - x_0)
    torch.testing.assert_close(b.drift(x, found, 2 / 3), math.pi / 2 * (0.5 * epsilon - ROOT * x_0))
    torch.testing.assert_close(a.excess(x, found, 2 / 3), epsilon - (2 / 3) / (5 / 9) * x)
    torch.testing.assert_close(b.excess(x, found, 2 / 3), epsilon - ROOT * x)
    velocity = ((epsilon - x_0) + (2 * x_0 - epsilon)) / 2  # the mean of both predictions'
    torch.testing.assert_close(a.transport(x, [found, other], 2 / 3, 1 / 3), x - velocity / 3)
    scale = ROOT + 0.5  # of both levels: signal and noise change places
    expected = scale * (x / scale + (0.5 / scale - ROOT / scale) * velocity)
    torch.testing.assert_close(b.transport(x, [found, other], 2 / 3, 1 / 3), expected)
    known = GaussianPath(Y).transport(x, [found], 2.0, 1.0)
    torch.testing.assert_close(known, 1.1 * (x / 1.3 + (0.3 / 1.1 - 0.9 / 1.3) * (epsilon - x_0)))


def test_excess_vanishes_where_the_data_are_standard_normal():
    """Then E[eps | x_t] = sigma x_t / (alpha^2 + sigma^2); a categorical field has none."""
    x = numbers(5, 2)
    for schedule, alpha, sigma in ((Y, 0.4, 0.9), (Z, 0.1, 1.2)):
        epsilon = sigma * x / (alpha**2 + sigma**2)
        excess = GaussianPath(schedule).excess(x, Prediction(x, epsilon), 2.0)
        torch.testing.assert_close(excess, torch.zeros_like(x))
    assert CategoricalPath(C, 3).excess(x, Classes(x), 2.0) is None


def half(x_t, t, condition):
    """A network whose answer is half of what it sees, whatever the level."""
    return {name: 0.5 * x_t[name] for name in ("a", "b")}


def test_solvers_move_each_field_along_its_own_path():
    """One step from t = 2/3 to 1/3, then one to the data, by hand; a reads a velocity, b an eps."""
    x = {"a": numbers(3, 2), "b": numbers(3, 4, seed=1)}
    denoiser = ModuleDenoiser(half, {"a": "flow", "b": "epsilon"})

    def data(b, alpha, sigma):
        return (b - sigma * 0.5 * b) / alpha

    def step(name):
        """The state at 1/3 by Euler and by Heun."""
        if name == "a":
            euler = x["a"] - 0.5 * x["a"] / 3
            return euler, x["a"] - (0.5 * x["a"] + 0.5 * euler) / 2 / 3
        first = 0.5 * x["b"] - data(x["b"], 0.5, ROOT)
        euler = x["b"] + (0.5 - ROOT) * first
        second = 0.5 * euler - data(euler, ROOT, 0.5)
        return euler, x["b"] + (0.5 - ROOT) * (first + second) / 2

    def run(sampler):
        sampler.levels = lambda process: [0.0, 1 / 3, 2 / 3]
        return sampler.resume(denoiser, continuous(), None, Given(), x, 2 / 3, keep=[1 / 3])

    for sampler, which in ((Euler(2), 0), (DDIM(2, 0.0), 0), (Heun(2), 1)):
        found = run(sampler)
        at_third = {name: step(name)[which] for name in x}
        for name in x:
            torch.testing.assert_close(found.states[1 / 3][name], at_third[name])
        torch.testing.assert_close(found.x_0["a"], at_third["a"] * (1 - 0.5 / 3))
        torch.testing.assert_close(found.x_0["b"], data(at_third["b"], ROOT, 0.5))

    found = run(EulerInTime(2))
    drift = math.pi / 2 * (0.5 * 0.5 * x["b"] - ROOT * data(x["b"], 0.5, ROOT))
    torch.testing.assert_close(found.states[1 / 3]["a"], step("a")[0])
    torch.testing.assert_close(found.states[1 / 3]["b"], x["b"] - drift / 3)
