"""Conversions at a denoiser's edge, and classifier-free guidance."""

import itertools

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.processes.denoiser import Guided, predict
from graft_lightning.processes.outputs import convert, epsilon_factor
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import Cosine, FromTable, Linear, Polynomial2, RectifiedFlow
from tests.fakes import MEANS, OUTPUTS, VARIANCES, GaussianNetwork, ModuleDenoiser, Recorder, exact_output

PATHS = {"vp": GaussianPath(Cosine()), "edm": GaussianPath(Polynomial2()), "flow": GaussianPath(RectifiedFlow())}


def state(path, shares=(0.05, 0.4, 0.95)):
    """x_0, eps and x_t of Eq. 1 at shares of T, with alpha and sigma."""
    generator = torch.Generator().manual_seed(3)
    x_0, epsilon = torch.randn(2, len(shares), 2, 3, generator=generator, dtype=torch.float64)
    t = torch.tensor(shares, dtype=torch.float64) * path.schedule.t_max
    alpha, sigma = path.alpha_sigma(t)
    a, b = alpha[:, None, None], sigma[:, None, None]
    raw = {"epsilon": epsilon, "sample": x_0, "v_prediction": a * epsilon - b * x_0, "flow": epsilon - x_0}
    return x_0, epsilon, a * x_0 + b * epsilon, alpha, sigma, raw


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_every_output_gives_back_data_and_noise(path, output):
    x_0, epsilon, x_t, alpha, sigma, raw = state(path)
    found = convert(output, raw[output], x_t, alpha, sigma)
    torch.testing.assert_close(found.x_0, x_0)
    torch.testing.assert_close(found.epsilon, epsilon)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(OUTPUTS, 2)))
def test_round_trips_of_arbitrary_answers(path, first, second):
    """A network's answer need not fit x_t: even so, both of its readings are one prediction."""
    _, _, x_t, alpha, sigma, _ = state(path)
    answer = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    here = convert(first, answer, x_t, alpha, sigma)
    a, b = alpha[:, None, None], sigma[:, None, None]
    as_second = {
        "epsilon": here.epsilon,
        "sample": here.x_0,
        "v_prediction": a * here.epsilon - b * here.x_0,
        "flow": here.epsilon - here.x_0,
    }[second]
    there = convert(second, as_second, x_t, alpha, sigma)
    torch.testing.assert_close(there.x_0, here.x_0)
    torch.testing.assert_close(there.epsilon, here.epsilon)
    torch.testing.assert_close(a * here.x_0 + b * here.epsilon, x_t)


@pytest.mark.parametrize("path", [PATHS["flow"], GaussianPath(FromTable([0.5, 0.0]))], ids=["flow", "zero-terminal"])
@pytest.mark.parametrize("output", ["sample", "v_prediction", "flow"])
def test_finite_and_right_where_the_signal_has_vanished(path, output):
    x_0, epsilon, x_t, alpha, sigma, raw = state(path, (1.0,))
    assert alpha.item() == 0
    found = convert(output, raw[output], x_t, alpha, sigma)
    torch.testing.assert_close(found.x_0, x_0)
    torch.testing.assert_close(found.epsilon, epsilon)


def test_an_unknown_output_is_refused():
    with pytest.raises(ValueError, match="'logits'"):
        convert("logits", *(torch.ones(1),) * 4)
    with pytest.raises(ValueError, match="'logits'"):
        epsilon_factor("logits", torch.ones(1), torch.ones(1))


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_epsilon_factor_is_the_derivative(path, output):
    _, _, x_t, alpha, sigma, raw = state(path)
    answer = raw[output].clone().requires_grad_(True)
    convert(output, answer, x_t, alpha, sigma).epsilon.sum().backward()
    expected = epsilon_factor(output, alpha, sigma)[:, None, None].expand_as(x_t)
    torch.testing.assert_close(answer.grad.abs(), expected)


@pytest.mark.parametrize("output", OUTPUTS)
def test_clipping_bounds_the_data_and_keeps_the_state(output):
    _, _, x_t, alpha, sigma, raw = state(PATHS["vp"])
    free = convert(output, raw[output], x_t, alpha, sigma)
    clipped = convert(output, raw[output], x_t, alpha, sigma, clip=0.7)
    inside = free.x_0.abs() <= 0.7
    assert 0 < inside.float().mean() < 1
    torch.testing.assert_close(clipped.x_0, free.x_0.clamp(-0.7, 0.7))
    assert torch.equal(clipped.epsilon[inside], free.epsilon[inside])
    a, b = alpha[:, None, None], sigma[:, None, None]
    torch.testing.assert_close(a * clipped.x_0 + b * clipped.epsilon, x_t)


def test_predict_converts_every_field_of_a_mixed_state():
    process = Process({"y": GaussianPath(Linear()), "c": CategoricalPath(Linear(), 3)})
    x_t = TensorDict({"y": torch.randn(2, 4), "c": torch.zeros(2, 5, dtype=torch.long)}, [2])
    raw = TensorDict({"y": torch.randn(2, 4), "c": torch.randn(2, 5, 3)}, [2])
    denoiser = ModuleDenoiser(lambda x, t, condition: raw, {"y": "v_prediction", "c": "logits"})
    fields = predict(denoiser, process, x_t, {"y": 700.0, "c": 500.0}, None)
    alpha, sigma = Linear().alpha_sigma(torch.tensor([700.0, 700.0]))
    expected = convert("v_prediction", raw["y"], x_t["y"], alpha, sigma)
    torch.testing.assert_close(fields["y"].x_0, expected.x_0)
    torch.testing.assert_close(fields["c"].probabilities, raw["c"].double().softmax(-1))


class TestGuidance:
    def setup_method(self):
        self.path = PATHS["vp"]
        self.network = GaussianNetwork(self.path, "v_prediction")
        self.plain = ModuleDenoiser(self.network, "v_prediction")
        self.x_t = torch.randn(4, 2, dtype=torch.float64)
        self.t = torch.full((4,), 300.0, dtype=torch.float64)
        self.condition = torch.tensor([1, 2, 1, 2])

    def null(self, device):
        return torch.zeros(1, dtype=torch.long, device=device)

    def test_combines_the_two_outputs(self):
        guided = Guided(self.plain, self.plain, 2.5, self.null)(self.x_t, self.t, self.condition)
        mean, variance = torch.tensor(list(MEANS.values())).double(), torch.tensor(list(VARIANCES.values())).double()
        c = exact_output(self.path, "v_prediction", self.x_t, self.t, mean[self.condition], variance[self.condition])
        u = exact_output(self.path, "v_prediction", self.x_t, self.t, mean[:1], variance[:1])
        torch.testing.assert_close(guided, u + 2.5 * (c - u))

    def test_joint_equals_separate_and_calls_once(self):
        recorder = Recorder(self.plain)
        separate = Guided(self.plain, self.plain, 3.0, self.null)(self.x_t, self.t, self.condition)
        joint = Guided(recorder, recorder, 3.0, self.null, joint=True)(self.x_t, self.t, self.condition)
        torch.testing.assert_close(joint, separate, rtol=1e-12, atol=1e-12)
        assert (len(recorder.levels), recorder.trajectories) == (1, 8)

    def test_conditions_may_have_fields(self):
        """Text and added conditions come as TensorDicts: the null condition is repeated and joined all the same."""
        fields = ModuleDenoiser(lambda x, t, condition: self.network(x, t, condition["class"]), "v_prediction")
        condition = TensorDict({"class": self.condition, "size": torch.zeros(4, 6)}, [4])
        guided = Guided(self.plain, self.plain, 3.0, self.null)(self.x_t, self.t, self.condition)

        def null(device):
            return TensorDict({"class": self.null(device), "size": torch.zeros(1, 6)}, [1])

        for joint in (False, True):
            found = Guided(fields, fields, 3.0, null, joint)(self.x_t, self.t, condition)
            torch.testing.assert_close(found, guided, rtol=1e-12, atol=1e-12)

    def test_scale_1_does_not_ask_the_unconditional_model(self):
        recorder = Recorder(self.plain)
        found = Guided(self.plain, recorder, 1.0, self.null)(self.x_t, self.t, self.condition)
        assert torch.equal(found, self.plain(self.x_t, self.t, self.condition))
        assert recorder.levels == []

    def test_no_gradient_reaches_the_unconditional_model(self):
        frozen = GaussianNetwork(self.path, "v_prediction")
        guided = Guided(self.plain, ModuleDenoiser(frozen, "v_prediction"), 2.0, self.null)
        guided(self.x_t, self.t, self.condition).sum().backward()
        assert frozen.mean.grad is None
        assert self.network.mean.grad[1:].abs().min() > 0
        assert (self.network.mean.grad[0] == 0).all()

    def test_is_the_same_in_every_output_type(self):
        predictions = []
        for output in OUTPUTS:
            plain = ModuleDenoiser(GaussianNetwork(self.path, output), output)
            guided = Guided(plain, plain, 2.0, self.null)
            predictions.append(predict(guided, Process(self.path), self.x_t, 300.0, self.condition)["x"].x_0)
        for other in predictions[1:]:
            torch.testing.assert_close(other, predictions[0])

    def test_different_outputs_are_refused(self):
        with pytest.raises(ValueError, match="outputs differ: v_prediction and epsilon"):
            Guided(self.plain, ModuleDenoiser(self.network, "epsilon"), 2.0, self.null)
