"""What samplers and the wrappers of denoisers pass on, level by level and by value."""

import pytest
import torch

from graft_lightning.processes.denoiser import Denoiser, Guided, predict
from graft_lightning.processes.grids import Explicit, Powered
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.outputs import convert
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM, Euler, Heun
from graft_lightning.processes.schedules import Cosine, FromTable, Linear, RectifiedFlow
from graft_lightning.processes.stitched import Stitched
from graft_lightning.processes.velocity import EulerInTime
from tests.fakes import ModuleDenoiser, Recorder
from tests.processes.known import SURVIVAL, TARGET, C, Given, Y, numbers

SAMPLERS = [DDIM, DDPM, Euler, Heun, EulerInTime, Interleaved]
FLOW = Process(GaussianPath(RectifiedFlow()))


@pytest.mark.parametrize("make", SAMPLERS)
def test_every_sampler_keeps_its_own_grid_and_bound(make):
    """The grid before that of the process; the bound for all that it predicts."""
    process = Process(GaussianPath(RectifiedFlow()), grid=Explicit([0.0, 0.25, 1.0]))
    own = Explicit([0.0, 0.5, 1.0])
    sampler = make(2, grid=own, clip_sample=0.1)
    assert sampler.levels(process) == [0.0, 0.5, 1.0]
    assert make(2).levels(process) == [0.0, 0.25, 1.0]
    wild = ModuleDenoiser(lambda x, t, condition: 9.0 * torch.ones_like(x), "sample")
    x = torch.zeros(2, 3, dtype=torch.float64)
    found = sampler.resume(wild, process, None, Noise(torch.arange(2), dtype=torch.float64), x, 0.5).x_0
    # the last step ends at the predicted data, whatever the noise: 0.1, and not 9
    torch.testing.assert_close(found, torch.full_like(found, 0.1))


@pytest.mark.parametrize(
    ("sampler", "etas"), [(DDPM(2), 1.0), (Euler(2), 0.0), (Heun(2), 0.0), (DDIM(2), 0.0), (Interleaved(2), 1.0)]
)
def test_how_much_noise_a_sampler_draws_by_default(sampler, etas):
    assert sampler.eta == etas


def test_the_order_of_a_solver_and_its_evaluations():
    assert (Heun.order, Euler.order, EulerInTime.order) == (2, 1, 1)
    assert [Heun(3).evaluations(within) for within in (True, False)] == [2, 1]
    assert [Euler(3).evaluations(within) for within in (True, False)] == [1, 1]
    assert [Interleaved(3).evaluations(within) for within in (True, False)] == [2, 2]


def test_a_process_with_classes_draws_noise_at_every_eta():
    mixed = Process({"y": GaussianPath(Cosine()), "c": CategoricalPath(Cosine(), 3)})
    assert [DDIM(2, eta).stochastic(process) for eta in (0.0, 0.5) for process in (FLOW, mixed)] == [
        False,
        True,
        True,
        True,
    ]
    assert not EulerInTime(2).stochastic(FLOW)


def test_heun_takes_the_mean_of_the_velocities_at_both_ends():
    """u = x + t on a linear path: one step from 1 to 0.5 by hand, then Euler's to the data."""
    denoiser = ModuleDenoiser(lambda x, t, condition: x + t[:, None], "flow")
    x = torch.tensor([[1.0, -2.0]]).double()
    found = Heun(2).resume(denoiser, FLOW, None, Noise(torch.arange(1)), x, 1.0, keep=[0.5])
    guess = x - 0.5 * (x + 1)
    middle = x - 0.5 * ((x + 1) + (guess + 0.5)) / 2
    torch.testing.assert_close(found.states[0.5], middle)
    torch.testing.assert_close(found.x_0, middle - 0.5 * (middle + 0.5))
    assert found.evaluations == 3


def test_heun_ends_a_step_at_a_hand_off_as_euler_does():
    """The model above is not asked at the hand-off, on the grid or off it."""
    above = Recorder(ModuleDenoiser(lambda x, t, condition: x + t[:, None], "flow"))
    below = Recorder(ModuleDenoiser(lambda x, t, condition: 0 * x, "flow"))
    x = torch.tensor([[1.0]]).double()
    found = Heun(2).resume(Stitched(above, below, 0.5), FLOW, None, Noise(torch.arange(1)), x, 1.0)
    assert (above.levels, below.levels) == ([1.0], [0.5])
    torch.testing.assert_close(found.x_0, x - 0.5 * (x + 1))


def test_a_trajectory_starts_at_the_last_level_of_the_grid_and_from_each_level_once():
    """A grid that ends below T; the start is kept if asked, and a level is not visited twice."""
    sampler = DDIM(2, grid=Explicit([0.0, 0.25, 0.75]))
    recorder = Recorder(ModuleDenoiser(lambda x, t, condition: x, "flow"))
    found = sampler.sample(recorder, FLOW, None, Noise(torch.arange(2)), (3,), keep=[0.75, 0.25, 0.0])
    assert recorder.levels == [0.75, 0.25]
    assert found.states.keys() == {0.75, 0.25, 0.0}
    torch.testing.assert_close(found.states[0.75], Noise(torch.arange(2)).normal(3))
    recorder.levels.clear()
    recorder.boundaries = (0.25,)
    sampler.resume(recorder, FLOW, None, Noise(torch.arange(2)), found.states[0.25], 0.25)
    assert recorder.levels == [0.25]


class Asked(Denoiser):
    """eps that tells the class and both levels: what the model of the Gaussian block was given."""

    output = {"y": "epsilon", "c": "logits"}  # noqa: RUF012

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, x_t, t, condition):
        levels = t if t.ndim == 2 else torch.stack([t, t], 1)
        of_levels = (0.1 * levels[:, :1] + 0.01 * levels[:, 1:]).double()
        return {"y": of_levels + x_t["c"], "c": self.logits.expand(*x_t["c"].shape, 3)}


@pytest.mark.parametrize("order", ["yc", "cy"])
def test_an_interleaved_step_by_hand(order):
    """Level 2 to 1: the class by q(c_s | c_t) given y at 2, then y given the new class at the levels y: 2, c: 1."""
    paths = {"y": GaussianPath(Y), "c": CategoricalPath(C, 3, TARGET)}
    process = Process({name: paths[name] for name in order})
    p = torch.tensor([0.6, 0.1, 0.3], dtype=torch.float64)
    x = {"y": numbers(2, 1), "c": torch.tensor([[0], [2]])}
    e, uniform = numbers(2, 1, seed=1), torch.tensor([[0.97], [0.02]], dtype=torch.float64)
    found = Interleaved(2, eta=0.5).resume(
        Asked(p.log()), process, None, Given((e,), (uniform, uniform)), x, 2.0, keep=[1.0]
    )
    kept = SURVIVAL[2] / SURVIVAL[1]
    classes = []
    for c_t, u in ((0, 0.97), (2, 0.02)):
        to = [kept * (c == c_t) + (1 - kept) * TARGET[c_t] for c in range(3)]
        whole = [SURVIVAL[2] * (c == c_t) + (1 - SURVIVAL[2]) * TARGET[c_t] for c in range(3)]
        start = [[SURVIVAL[1] * (c == c_0) + (1 - SURVIVAL[1]) * TARGET[c] for c in range(3)] for c_0 in range(3)]
        joint = [sum(float(p[c_0]) * start[c_0][c] / whole[c_0] for c_0 in range(3)) * to[c] for c in range(3)]
        cumulative = torch.tensor(joint).cumsum(0)
        classes.append(int((cumulative <= u * cumulative[-1]).sum()))
    assert classes == [2, 0]  # neither is the class that it was
    state = found.states[1.0]
    assert state["c"].flatten().tolist() == classes
    t_y, t_c = {"yc": (0.1 * 2, 0.01 * 1), "cy": (0.01 * 2, 0.1 * 1)}[order]
    epsilon = torch.tensor(classes).double()[:, None] + t_y + t_c
    x_0 = (x["y"] - 0.9 * epsilon) / 0.4
    variance = 0.3**2 * (0.9**2 - 0.5**2 * 0.3**2) / 0.9**2  # of the posterior
    expected = 0.8 * x_0 + (0.3**2 - variance / 4) ** 0.5 * epsilon + 0.5 * variance**0.5 * e
    torch.testing.assert_close(state["y"], expected)


def test_a_state_whose_fields_stand_apart_belongs_to_the_model_of_the_highest():
    """Above the hand-off as long as one field is, whichever comes first; at it both are below."""
    above, below = (ModuleDenoiser(lambda x, t, c, name=name: name) for name in ("above", "below"))
    stitched = Stitched(above, below, 500.0)
    for levels, name in (
        ([700.0, 500.0], "above"),
        ([500.0, 700.0], "above"),
        ([500.0, 500.0], "below"),
        ([500.0, 300.0], "below"),
    ):
        assert stitched(None, torch.tensor([levels, levels]), None) == name
    assert stitched(None, torch.tensor([[700.0, 100.0], [501.0, 700.0]]), None) == "above"
    assert stitched(None, torch.tensor([500.0, 100.0]), None) == "below"
    assert stitched.at(500.0) is below
    assert stitched.at(500.1) is above


def test_stitches_answer_through_each_other():
    a, b, c = (ModuleDenoiser(None) for _ in range(3))
    nested = Stitched(Stitched(a, b, 600.0), c, 300.0)
    assert nested.boundaries == (300.0, 600.0)
    assert [nested.at(t) for t in (700.0, 600.0, 300.0)] == [a, b, c]
    assert Stitched(Stitched(a, b, 600.0), c, 0.0).boundaries == (600.0,)
    assert Stitched(a, b, 0.0).boundaries == ()


def test_fields_that_stand_apart_ask_the_model_of_the_highest_and_take_its_origin():
    process = Process({"y": GaussianPath(Linear()), "c": CategoricalPath(Linear(), 3)})
    raw = {"y": torch.zeros(1, 2), "c": torch.zeros(1, 2, 3)}
    asked = []

    def model(name, origin):
        denoiser = ModuleDenoiser(lambda x, t, condition: asked.append(name) or raw, {"y": "epsilon", "c": "logits"})
        denoiser.origin = origin
        return denoiser

    stitched = Stitched(model("above", 500.0), model("below", 0.0), 500.0)
    x = {"y": torch.zeros(1, 2), "c": torch.zeros(1, 2, dtype=torch.int64)}
    for levels, name, origin in (
        ({"y": 700.0, "c": 500.0}, "above", 500.0),
        ({"y": 300.0, "c": 700.0}, "above", 500.0),
        ({"y": 500.0, "c": 250.0}, "below", 0.0),
    ):
        asked.clear()
        assert predict(stitched, process, x, levels, None)["c"].level == origin
        assert asked == [name]


class TestGuidedOfStitched:
    """Guidance of a stitched model is guidance of each of its parts."""

    def setup_method(self):
        self.models = [ModuleDenoiser(lambda x, t, c, k=k: k * x + c[:, None], "sample") for k in (2.0, 3.0, 5.0)]
        above, below, plain = self.models
        below.origin = 0.25
        self.stitched = Stitched(above, below, 0.5)
        self.null = lambda device: torch.tensor([7.0], device=device)
        self.guided = Guided(self.stitched, plain, 3.0, self.null)

    def test_it_changes_where_its_parts_do(self):
        assert self.guided.boundaries == (0.5,)
        assert self.guided.origin == self.stitched.origin
        assert Guided(self.models[1], self.models[0], 2.0, self.null).origin == 0.25

    @pytest.mark.parametrize(("t", "k"), [(0.75, 2.0), (0.5, 3.0)])
    def test_u_plus_scale_times_the_difference(self, t, k):
        x, condition = numbers(4, 2), torch.arange(4.0).double()
        found = self.guided.at(t)(x, torch.full((4,), t), condition)
        conditional, unconditional = k * x + condition[:, None], 5 * x + 7
        torch.testing.assert_close(found, unconditional + 3 * (conditional - unconditional))

    def test_where_only_the_unconditional_model_is_stitched(self):
        plain = self.models[2]
        at = Guided(plain, self.stitched, 3.0, self.null).at(0.75)
        x, condition = numbers(4, 2), torch.arange(4.0).double()
        unconditional = 2 * x + 7
        expected = unconditional + 3 * (5 * x + condition[:, None] - unconditional)
        torch.testing.assert_close(at(x, torch.full((4,), 0.75), condition), expected)
        # the part itself, which no longer looks at the levels of a batch
        torch.testing.assert_close(at(x, torch.tensor([0.25, 0.75, 0.75, 0.75]), condition), expected)

    def test_scales_below_1_ask_both_models(self):
        x, condition, t = numbers(4, 2), torch.arange(4.0).double(), torch.full((4,), 0.75)
        above, _, plain = self.models
        conditional, unconditional = 2 * x + condition[:, None], 5 * x + 7
        for scale in (0.0, 0.5):
            found = Guided(above, plain, scale, self.null)(x, t, condition)
            torch.testing.assert_close(found, (1 - scale) * unconditional + scale * conditional)

    def test_a_part_keeps_to_one_call_of_twice_the_batch(self):
        sizes = []

        def network(x, t, condition):
            sizes.append(len(x))
            return condition[:, None] * x

        one, two = (ModuleDenoiser(network, "sample") for _ in range(2))
        stitched = Stitched(one, two, 0.5)
        joint = Guided(stitched, stitched, 3.0, self.null, joint=True)
        x, condition = numbers(4, 2), torch.arange(4.0).double()
        found = joint.at(0.75)(x, torch.full((4,), 0.75), condition)
        assert sizes == [8]
        torch.testing.assert_close(found, 7 * x + 3 * (condition[:, None] * x - 7 * x))


def test_an_eps_is_read_where_no_signal_is_left():
    """alpha = 0: x_0 is huge, not infinite or 0 / 0, so that a clip bounds it; one alpha, or one for each sample."""
    x_t, raw = torch.tensor([[1.0, 2.0, -2.0]]), torch.tensor([[1.0, 1.0, 1.0]])
    for alpha, sigma in ((0.0, 1.0), (torch.zeros(1), torch.ones(1))):
        found = convert("epsilon", raw, x_t, alpha, sigma, clip=1.0)
        assert found.x_0.tolist() == [[0.0, 1.0, -1.0]]
        assert found.epsilon.tolist() == [[1.0, 2.0, -2.0]]


def test_powered_levels():
    """first + (T - first) ((n - 1) / (N - 1))^power."""
    assert Powered(0.2, 2.0).levels(RectifiedFlow(), 3) == pytest.approx([0.0, 0.2, 0.2 + 0.8 / 4, 1.0])
    assert Powered(0.2, 2.0).levels(RectifiedFlow(), 1) == [0.0, 1.0]
    assert Powered(0.2, 2.0).levels(Linear(8), 3) == [0.0, 2.0, 3.0, 8.0]  # 1.6 and 3.2
    assert Powered(0.25, 1.0).levels(Linear(100), 4) == [0.0, 25.0, 50.0, 75.0, 100.0]


def test_levels_of_a_table_are_rounded_to_the_nearest():
    alpha, sigma = FromTable([0.81, 0.36]).alpha_sigma(torch.tensor([0.6, 1.4, 1.6], dtype=torch.float64))
    torch.testing.assert_close(alpha, torch.tensor([0.9, 0.9, 0.6], dtype=torch.float64))
    torch.testing.assert_close(sigma**2, torch.tensor([0.19, 0.19, 0.64], dtype=torch.float64))
    assert FromTable([0.81, 0.36]).at(2.0) == pytest.approx((0.6, 0.8))


def test_log_snr_is_half_the_log_of_the_power_ratio():
    assert RectifiedFlow().log_snr(torch.tensor([0.2])).item() == pytest.approx(1.3862943611)  # log 4
