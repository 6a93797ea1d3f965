"""The objective: its minimiser is the exact score of the noised data (Eq. 6, 6b), and Eq. 7 by brute force.

Expected losses are exact: the loss of an affine denoiser is quadratic in (x_s, e), so three Gauss-Hermite nodes in each
integrate it without error.
"""

import itertools

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch import nn

from graft_lightning.processes.noise import Noise
from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import Cosine, FromTable, Linear, RectifiedFlow
from graft_lightning.processes.times import LogitNormalTime
from graft_lightning.processes.weightings import CappedInverseAlpha, MinSNR, Unit
from tests.fakes import OUTPUTS, ModuleDenoiser, exact_output, normal_noise

VP, FLOW = GaussianPath(Linear(1000)), GaussianPath(RectifiedFlow())
# path, s, t: GRAFT and P-GRAFT, the first and the last trained level
RANGES = {
    "vp-graft": (VP, 0.0, 400.0),
    "vp-first": (VP, 0.0, 1.0),
    "vp-pgraft": (VP, 250.0, 600.0),
    "vp-just-above": (VP, 250.0, 251.0),
    "vp-top": (VP, 250.0, 1000.0),
    "flow-graft": (FLOW, 0.0, 0.5),
    "flow-pgraft": (FLOW, 0.3, 0.7),
    "flow-just-above": (FLOW, 0.3, 0.3001),
    "flow-top": (FLOW, 0.3, 1.0),
}
MEAN, VARIANCE = 0.8, 0.35


class NodeNoise(Noise):
    """The nodes of a quadrature in place of noise, and the first level of the range."""

    def __init__(self, nodes):
        self.nodes = nodes

    def uniform(self, *shape):
        return torch.zeros(len(self.nodes), *shape)

    def normal(self, *shape):
        return self.nodes.reshape(-1, *[1] * len(shape)).expand(-1, *shape)


class Perturbed(nn.Module):
    """The ideal denoiser of x_s ~ N(mean, variance) plus an affine perturbation, zero at first."""

    def __init__(self, path, output, s, mean=MEAN, variance=VARIANCE):
        super().__init__()
        self.arguments = (path, output, mean, variance, s)
        self.slope, self.shift = (nn.Parameter(torch.zeros((), dtype=torch.float64)) for _ in range(2))

    def forward(self, x, t, condition):
        path, output, mean, variance, s = self.arguments
        mean, variance = torch.tensor([mean, variance], dtype=torch.float64)
        return exact_output(path, output, x, t, mean, variance, s) + self.slope * x + self.shift


def expected_loss(objective, model, output, path, t, level, low=None, mean=MEAN, variance=VARIANCE):
    """E over x ~ N(mean, variance) at ``level`` and over e, at the one level t."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = torch.from_numpy(weights / weights.sum())
    x, e = (grid.flatten() for grid in torch.meshgrid(*[torch.from_numpy(nodes)] * 2, indexing="ij"))
    if path.schedule.discrete:
        low = t - 1  # the one integer level above it
    loss = objective.loss(
        ModuleDenoiser(model, output),
        Process(path),
        (mean + variance**0.5 * x).unsqueeze(1),
        None,
        NodeNoise(e),
        level,
        low,
        t,
    )
    assert (loss.t == t).all()
    return (loss.value * (weights[:, None] * weights).flatten()).sum()


def gradient(model, loss):
    return torch.stack(torch.autograd.grad(loss, [model.slope, model.shift]))


@pytest.mark.parametrize(("path", "s", "t"), RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("weighting", [None, MinSNR(), CappedInverseAlpha()], ids=["own", "min-snr", "capped"])
class TestMinimiser:
    def test_eq_6_is_minimal_at_the_exact_score(self, path, s, t, output, weighting):
        objective, model = Objective(weighting), Perturbed(path, output, s)
        best = expected_loss(objective, model, output, path, t, s)
        assert gradient(model, best).abs().max() < 1e-9
        for slope, shift in ((0.3, 0.0), (-0.3, 0.0), (0.0, 0.3), (0.0, -0.3)):
            model.slope.data.fill_(slope)
            model.shift.data.fill_(shift)
            assert expected_loss(objective, model, output, path, t, s) > best

    def test_states_x_0_has_the_same_minimiser(self, path, s, t, output, weighting):
        """The states at s of data N(m, v) follow (1): noising x_0 instead, above s, teaches the same."""
        objective, model = Objective(weighting), Perturbed(path, output, 0.0)
        loss = expected_loss(objective, model, output, path, t, 0.0, low=s)
        assert gradient(model, loss).abs().max() < 1e-9
        alpha_s, sigma_s = (value.item() for value in path.alpha_sigma(torch.tensor(s, dtype=torch.float64)))
        moments = {"mean": alpha_s * MEAN, "variance": alpha_s**2 * VARIANCE + sigma_s**2}
        loss = expected_loss(objective, model, output, path, t, s, **moments)
        assert gradient(model, loss).abs().max() < 1e-9


@pytest.mark.parametrize("output", OUTPUTS)
def test_another_score_is_not_minimal(output):
    """The control of the tests above: the ideal denoiser of other states has a gradient."""
    for path, t in ((VP, 500.0), (FLOW, 0.6)):
        s = 0.3 * path.schedule.t_max
        wrong = Perturbed(path, output, s, mean=MEAN + 0.1)
        loss = expected_loss(Objective(), wrong, output, path, t, s)
        assert gradient(wrong, loss).abs().max() > 1e-3


def batch(path, s, share=None, count=5):
    generator = torch.Generator().manual_seed(1)
    x, e = torch.randn(2, count, 2, 3, generator=generator, dtype=torch.float64)
    t = torch.linspace(0.35, 1.0, count, dtype=torch.float64) if share is None else torch.full((count,), share).double()
    return x, e, s, t * path.schedule.t_max


@pytest.mark.parametrize("path", [VP, FLOW], ids=["vp", "flow"])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_eq_6b_targets_compose_x_t(path, share):
    """x_t = alpha_t x_0* + sigma_t eps*, and v*, u* are made of the same x_0* and eps*."""
    x_s, e, s, t = batch(path, share * path.schedule.t_max)
    kernel = path.kernel(torch.full_like(t, s), t)
    x_t = kernel.alpha[:, None, None] * x_s + kernel.sigma[:, None, None] * e
    targets = {}
    for output in OUTPUTS:
        kappa, scaled = path.scaled_target(output, x_s, e, s, t)
        targets[output] = scaled / kappa[:, None, None]
    alpha, sigma = (value[:, None, None] for value in path.alpha_sigma(t))
    torch.testing.assert_close(alpha * targets["sample"] + sigma * targets["epsilon"], x_t)
    torch.testing.assert_close(targets["v_prediction"], alpha * targets["epsilon"] - sigma * targets["sample"])
    torch.testing.assert_close(targets["flow"], targets["epsilon"] - targets["sample"])
    torch.testing.assert_close(targets["epsilon"] * kernel.sigma[:, None, None], sigma * e)
    if share == 0:
        torch.testing.assert_close(targets["sample"], x_s)


@pytest.mark.parametrize("path", [FLOW, GaussianPath(FromTable([0.9, 0.5, 0.0]))], ids=["flow", "zero-terminal"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_targets_are_finite_where_the_signal_has_vanished(path, output):
    x_s, e, s, t = batch(path, path.schedule.t_max / 3, 1.0)
    kappa, scaled = path.scaled_target(output, x_s, e, s, t)
    assert kappa.isfinite().all()
    assert scaled.isfinite().all()


@pytest.mark.parametrize("output", OUTPUTS)
def test_eq_6_stays_bounded_as_t_tends_to_s(output):
    """The naive form (sigma_t / sigma_ts) e grows without bound there; kappa and kappa times the target do not."""
    for gap in (1e-2, 1e-5, 1e-9, 1e-13):
        x_s, e, s, t = batch(FLOW, 0.3)
        kappa, scaled = FLOW.scaled_target(output, x_s, e, s, torch.full_like(t, s + gap))
        assert (kappa <= 1).all()
        bound = 3 * (x_s.abs() + e.abs())
        assert (scaled.abs() <= bound).all()
    assert kappa.max() < 1e-5


@pytest.mark.parametrize("weighting", [Unit(), MinSNR(), CappedInverseAlpha()], ids=["1", "min-snr", "capped"])
def test_at_s_0_it_is_the_ordinary_eps_loss(weighting):
    x_0 = torch.randn(64, 2, 3, dtype=torch.float64)
    seen = {}

    def network(x_t, t, condition):
        seen.update(x_t=x_t, t=t)
        return torch.sin(x_t)

    loss = Objective(weighting).loss(ModuleDenoiser(network), Process(VP), x_0, None, normal_noise(64))
    alpha, sigma = VP.alpha_sigma(seen["t"])
    epsilon = (seen["x_t"] - alpha[:, None, None] * x_0) / sigma[:, None, None]
    expected = weighting.weight(alpha, sigma) * (torch.sin(seen["x_t"]) - epsilon).pow(2).mean((1, 2))
    torch.testing.assert_close(loss.value, expected)
    assert torch.equal(loss.t, seen["t"])
    assert seen["t"].unique().numel() > 40


def test_a_flow_regresses_its_velocity_with_weight_1():
    """By default and at every level, t = 1 included, where the first step of a sampler is taken."""
    x_0 = torch.randn(7, 2, 3, dtype=torch.float64)
    for high in (1.0, 0.4, 1e-3):
        seen = {}

        def network(x_t, t, condition, seen=seen):
            seen["x_t"] = x_t
            return torch.sin(x_t)

        nodes = torch.linspace(-2, 2, 7, dtype=torch.float64)
        loss = Objective().loss(ModuleDenoiser(network, "flow"), Process(FLOW), x_0, None, NodeNoise(nodes), high=high)
        assert (loss.t == high).all()
        velocity = nodes[:, None, None] - x_0
        torch.testing.assert_close(loss.value, (torch.sin(seen["x_t"]) - velocity).pow(2).mean((1, 2)))


def test_a_flow_has_a_bounded_weight_above_s():
    """With u_theta off by 1 everywhere the loss grows by kappa^2 <= 1."""
    for t in (0.31, 0.5, 1.0):
        s, level = torch.tensor([0.3]).double(), torch.tensor([t]).double()
        kappa = FLOW.kernel(s, level).sigma / FLOW.alpha_sigma(level)[1]
        model = Perturbed(FLOW, "flow", 0.3)
        best = expected_loss(Objective(), model, "flow", FLOW, t, 0.3)
        model.shift.data.fill_(1.0)
        worse = expected_loss(Objective(), model, "flow", FLOW, t, 0.3)
        torch.testing.assert_close((worse - best).reshape(1), kappa**2)


@pytest.mark.parametrize(
    ("path", "distribution"), [(VP, None), (FLOW, None), (FLOW, LogitNormalTime())], ids=["vp", "flow", "flow-ln"]
)
@pytest.mark.parametrize("states", ["x_s", "x_0"])
def test_levels_lie_above_s(path, distribution, states):
    s = 0.25 * path.schedule.t_max
    level, low = (s, None) if states == "x_s" else (0.0, s)
    denoiser = ModuleDenoiser(lambda x, t, c: x, "v_prediction")
    loss = Objective().loss(
        denoiser, Process(path, distribution), torch.zeros(2000, 1), None, normal_noise(2000), level, low
    )
    assert loss.value.shape == loss.t.shape == (2000,)
    assert loss.t.min() > s
    assert loss.t.max() <= path.schedule.t_max
    assert loss.t.min() < s + 0.05 * path.schedule.t_max
    assert loss.t.max() > 0.9 * path.schedule.t_max


def test_levels_of_the_reverse_order_lie_at_and_below_s():
    denoiser = ModuleDenoiser(lambda x, t, c: x)
    loss = Objective().loss(denoiser, Process(VP), torch.zeros(3000, 1), None, normal_noise(3000), 0.0, 0.0, 250.0)
    assert (loss.t.min(), loss.t.max()) == (1, 250)


def test_states_cannot_be_noised_to_lower_levels():
    with pytest.raises(ValueError, match=r"low=100.*level 250"):
        Objective().loss(ModuleDenoiser(None), Process(VP), torch.zeros(1, 1), None, normal_noise(1), 250.0, 100.0)


def test_the_loss_of_an_example_does_not_depend_on_its_batch():
    x, denoiser = torch.randn(6, 3, dtype=torch.float64), ModuleDenoiser(lambda x, t, c: torch.sin(x))
    seeds = torch.arange(6)
    run = lambda rows: Objective().loss(  # noqa: E731
        denoiser, Process(VP), x[rows], None, Noise(seeds[rows], dtype=torch.float64), 250.0
    )
    rows = torch.tensor([4, 1])
    torch.testing.assert_close(run(rows).value, run(seeds).value[rows])
    assert torch.equal(run(rows).t, run(seeds).t[rows])


class TestCategorical:
    """Eq. 7 with every probability summed out by hand."""

    classes = 3

    def setup_method(self):
        self.logits = torch.randn(200, 4, self.classes, generator=torch.Generator().manual_seed(2))

    def loss(self, path, s, target="c_0", seen=None):
        c_s = torch.arange(800).reshape(200, 4) % self.classes
        if path.target[-1] == 1:
            c_s = c_s.clamp_max(1)  # clean or masked; the mask itself is not trained on here

        def network(x_t, t, condition):
            if seen is not None:
                seen.update(c_t=x_t, t=t, c_s=c_s)
            return self.logits

        denoiser = ModuleDenoiser(network, "logits")
        objective = Objective(categorical_target=target)
        return objective.loss(denoiser, Process(path), c_s, None, Noise(torch.arange(200)), s)

    @pytest.mark.parametrize("target", ["uniform", "absorbing", [0.2, 0.5, 0.3]], ids=str)
    @pytest.mark.parametrize("s", [0.0, 8.0])
    def test_eq_7_against_brute_force(self, target, s):
        path, seen = CategoricalPath(Linear(20, 0.01, 0.5), self.classes, target), {}
        loss = self.loss(path, s, seen=seen)
        eye, p_0 = torch.eye(self.classes, dtype=torch.float64), self.logits.double().softmax(-1)

        def transition(low, high):
            beta = path.survival(torch.tensor(high)) / path.survival(torch.tensor(low))
            return beta * eye + (1 - beta) * path.target

        expected = torch.zeros(200, 4, dtype=torch.float64)
        for i, j in itertools.product(range(200), range(4)):
            c_s, c_t, t = seen["c_s"][i, j], seen["c_t"][i, j], float(seen["t"][i])
            whole, to_s, to_t = transition(0.0, t), transition(0.0, s), transition(s, t)
            possible = p_0[i, j] * (whole[:, c_t] > 0)
            bayes = to_s[:, c_s] * to_t[c_s, c_t] / whole[:, c_t].clamp_min(1e-300)
            # What c_t rules out is left out of the mixture; at s = 0 it costs as in cross-entropy.
            share = possible / possible.sum() if s > 0 else possible
            expected[i, j] = -(share * bayes).sum().log()
        torch.testing.assert_close(loss.value.double(), expected.mean(1), rtol=1e-5, atol=1e-6)

    def test_at_s_0_it_is_cross_entropy(self):
        path, seen = CategoricalPath(Linear(20, 0.01, 0.5), self.classes), {}
        loss = self.loss(path, 0.0, seen=seen)
        expected = nn.functional.cross_entropy(self.logits.flatten(0, 1), seen["c_s"].flatten(), reduction="none")
        torch.testing.assert_close(loss.value, expected.reshape(200, 4).mean(1))

    def test_target_c_s_is_cross_entropy_of_c_s(self):
        path, seen = CategoricalPath(Linear(20, 0.01, 0.5), self.classes), {}
        loss = self.loss(path, 8.0, "c_s", seen)
        expected = nn.functional.cross_entropy(self.logits.flatten(0, 1), seen["c_s"].flatten(), reduction="none")
        torch.testing.assert_close(loss.value, expected.reshape(200, 4).mean(1))
        assert seen["t"].min() > 8


def test_mixed_states_weigh_their_fields_and_leave_out_padding():
    """A loss of a field is its mean over the real elements; fields are summed with their weights."""
    process = Process({"y": GaussianPath(Cosine()), "c": CategoricalPath(Cosine(), 3)})
    mask = torch.tensor([[True, True, False], [True, False, False]])
    x = TensorDict({"y": torch.randn(2, 3, 2), "c": torch.zeros(2, 3, dtype=torch.long), "mask": mask}, [2])
    outputs = {"y": "epsilon", "c": "logits"}

    def run(padding, weights):
        def network(x_t, t, condition):
            y = torch.sin(x_t["y"]).masked_fill(~mask[..., None], padding)
            return TensorDict({"y": y, "c": torch.stack([y[..., 0]] * 2 + [y[..., 1]], -1)}, [2])

        return Objective(field_weights=weights).loss(
            ModuleDenoiser(network, outputs), process, x, None, Noise(torch.arange(2))
        )

    both = run(0.0, {}).value
    assert torch.equal(run(1e3, {}).value, both)
    only_y, only_c = run(0.0, {"c": 0.0}).value, run(0.0, {"y": 0.0}).value
    assert (only_y > 0).all()
    assert (only_c > 0).all()
    torch.testing.assert_close(only_y + only_c, both)
    torch.testing.assert_close(run(0.0, {"c": 0.1}).value, only_y + 0.1 * only_c)
