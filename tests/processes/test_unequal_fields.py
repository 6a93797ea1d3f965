"""Fields with schedules of their own, in samples with unequal numbers of real elements: every step by its value.

All expected numbers come from Eq. 1 to 3 with the listed coefficients of `known`, field by field.
"""

import math

import pytest
import torch

from graft_lightning.processes.denoiser import predict
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.outputs import Classes, Prediction
from graft_lightning.processes.paths import CategoricalPath, CentredGaussianPath, GaussianPath, LossSettings
from graft_lightning.processes.paths.base import mean_over_real
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM, Euler, Heun
from graft_lightning.processes.schedules import RectifiedFlow, Trigonometric
from graft_lightning.processes.times import TimeDistribution
from graft_lightning.processes.velocity import EulerInTime
from graft_lightning.processes.weightings import CappedInverseAlpha, Unit
from graft_lightning.types import bare
from tests.fakes import ModuleDenoiser
from tests.processes.known import (
    ALPHA_Y,
    ALPHA_Z,
    MASK,
    SIGMA_Y,
    SIGMA_Z,
    SURVIVAL,
    TARGET,
    C,
    Given,
    Y,
    Z,
    centred,
    numbers,
    real,
    unequal,
)

UNIFORM = torch.tensor([[0.1, 0.6, 0.9, 0.8], [0.95, 0.3, 0.69, 0.8]])
"""Of the classes; what padding gets would be a class other than 0."""

STD_Y = math.sqrt(0.9**2 - 0.5**2 * 0.3**2)
"""sigma_ts of `Y` from level 1 to 2, Eq. 2: alpha_ts = 0.4 / 0.8."""
STD_Z = math.sqrt(1.2**2 - 0.2**2 * 0.6**2)
"""sigma_ts of `Z` from level 1 to 2: alpha_ts = 0.1 / 0.5."""
KEPT = 0.3 / 0.9
"""beta_ts of the classes from level 1 to 2."""


def noise():
    return Given((numbers(2, 4, 2, seed=1), numbers(2, 4, 3, seed=2)), (UNIFORM,))


def state():
    """A state whose padding is empty, as every path leaves it."""
    classes = torch.tensor([[1, 2, 0, 0], [0, 1, 2, 0]])
    return {"y": real(numbers(2, 4, 2, seed=3)), "z": centred(numbers(2, 4, 3, seed=4)), "c": classes, "mask": MASK}


def drawn(probabilities, uniform):
    """The first class whose cumulative probability is above the uniform number."""
    total = 0.0
    for c, p in enumerate(probabilities):
        total += p
        if uniform < total:
            return c
    raise AssertionError("probabilities below 1")


def test_prior_is_of_unit_data_with_each_fields_own_scale():
    """Variance alpha_T^2 + sigma_T^2, on the real elements; centred over the real points alone."""
    found = unequal().prior({"y": (4, 2), "z": (4, 3), "c": (4,)}, noise(), {"mask": MASK})
    assert found.keys() == {"mask", "y", "z", "c"}
    e_y, e_z = numbers(2, 4, 2, seed=1), numbers(2, 4, 3, seed=2)
    torch.testing.assert_close(found["y"], real(e_y) * math.sqrt(0.4**2 + 0.9**2))
    torch.testing.assert_close(found["z"], centred(e_z) * math.sqrt(0.1**2 + 1.2**2))
    assert found["c"].tolist() == [[0, 1, 0, 0], [2, 1, 1, 0]]  # cumulative 0.2, 0.7, 1


def test_diffuse_moves_each_field_by_its_own_kernel():
    """From level 1 to 2, Eq. 2 and 3."""
    x_s = state()
    found = unequal().diffuse(x_s, 1.0, 2.0, noise())
    e_y, e_z = numbers(2, 4, 2, seed=1), numbers(2, 4, 3, seed=2)
    torch.testing.assert_close(found["y"], 0.5 * x_s["y"] + STD_Y * real(e_y))
    torch.testing.assert_close(found["z"], 0.2 * x_s["z"] + STD_Z * centred(e_z))
    q = {c: [KEPT * (c == to) + (1 - KEPT) * TARGET[to] for to in range(3)] for c in range(3)}
    for i, j in MASK.nonzero().tolist():
        assert int(found["c"][i, j]) == drawn(q[int(x_s["c"][i, j])], UNIFORM[i, j])
    assert (found["c"][~MASK] == 0).all()
    assert torch.equal(found["mask"], MASK)


def test_diffuse_with_a_level_for_each_field():
    """Fields stand at levels of their own, in the order of the paths; what stays at s stays as it is."""
    levels = torch.tensor([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0]]).double()
    x_s = state()
    found = unequal().diffuse(x_s, 1.0, levels, noise())
    e_y, e_z = numbers(2, 4, 2, seed=1), numbers(2, 4, 3, seed=2)
    torch.testing.assert_close(found["y"][0], 0.5 * x_s["y"][0] + STD_Y * real(e_y)[0])
    torch.testing.assert_close(found["y"][1], x_s["y"][1])
    torch.testing.assert_close(found["z"][0], x_s["z"][0])
    torch.testing.assert_close(found["z"][1], 0.2 * x_s["z"][1] + STD_Z * centred(e_z)[1])
    assert torch.equal(found["c"], x_s["c"])


def test_noised_fields_carry_what_moved_them():
    x_s = state()
    levels = torch.full((2,), 2.0).double()
    found = unequal().noised(x_s, 1.0, levels, noise())
    torch.testing.assert_close(found["y"].random, real(numbers(2, 4, 2, seed=1)))
    torch.testing.assert_close(found["z"].random, centred(numbers(2, 4, 3, seed=2)))
    assert torch.equal(found["c"].random, UNIFORM)
    for name, field in found.items():
        assert torch.equal(field.x_s, x_s[name])
        assert field.s == 1
        assert torch.equal(field.t, levels)
        assert field.mask is MASK


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("path", "alpha", "sigma", "std", "project"),
    [
        (GaussianPath(Y), ALPHA_Y, SIGMA_Y, STD_Y, real),
        (CentredGaussianPath(Z), ALPHA_Z, SIGMA_Z, STD_Z, centred),
    ],
    ids=["whole", "centred"],
)
def test_reverse_by_completing_the_square(path, alpha, sigma, std, project, eta):
    """Level 2 to 1: eta times the posterior's standard deviation is drawn, the rest of sigma_s keeps the eps found."""
    x_0, epsilon, e = (project(numbers(2, 4, 2, seed=k)) for k in (5, 6, 7))
    x_t = alpha[2] * x_0 + sigma[2] * epsilon
    given = Given((numbers(2, 4, 2, seed=7),) if eta else ())
    found = path.reverse(x_t, Prediction(x_0, epsilon), 2.0, 1.0, given, MASK, eta)
    a = alpha[2] / alpha[1]
    precision = 1 / sigma[1] ** 2 + a**2 / std**2
    drawn_std = eta / math.sqrt(precision)
    kept = math.sqrt(sigma[1] ** 2 - drawn_std**2)
    torch.testing.assert_close(found, alpha[1] * x_0 + kept * epsilon + drawn_std * e)
    if eta == 1:
        posterior = (alpha[1] * x_0 / sigma[1] ** 2 + a * x_t / std**2) / precision
        torch.testing.assert_close(found, posterior + drawn_std * e)


def test_reverse_to_the_data_draws_nothing():
    """No noise is taken from the stream there, at any eta."""
    x_0 = numbers(2, 4, 2)
    found = GaussianPath(Y).reverse(numbers(2, 4, 2, seed=1), Prediction(x_0, x_0), 1.0, 0.0, Given(), MASK, 1.0)
    torch.testing.assert_close(found, x_0)


@pytest.mark.parametrize("origin", [0.0, 1.0])
def test_reverse_of_classes_is_bayes_rule(origin):
    """Level 2 to 1, the class at ``origin`` summed out; padding becomes class 0."""
    path = CategoricalPath(C, 3, TARGET)
    p = [0.6, 0.1, 0.3]

    def kernel(kept, c, to):
        return kept * (c == to) + (1 - kept) * TARGET[to]

    from_origin = SURVIVAL[1] if origin == 0 else 1.0
    for c_t in range(3):
        joint = [0.0] * 3
        for c_0 in range(3):
            evidence = kernel(from_origin * KEPT, c_0, c_t)
            for c_s in range(3):
                joint[c_s] += p[c_0] * kernel(from_origin, c_0, c_s) * kernel(KEPT, c_s, c_t) / evidence
        x_t = torch.full((2, 4), c_t)
        probabilities = torch.tensor(p, dtype=torch.float64).expand(2, 4, 3)
        edges = [joint[0], joint[0] + joint[1], 1.0]
        for c_s, edge in enumerate(edges):  # just inside either end of the class's share of [0, 1)
            for u in (edge - 1e-6, edge - joint[c_s] + 1e-6):
                given = Given((), (torch.full((2, 4), u, dtype=torch.float64),))
                found = path.reverse(x_t, Classes(probabilities, origin), 2.0, 1.0, given, MASK)
                assert (found[MASK] == c_s).all()
                assert (found[~MASK] == 0).all()


def test_predict_reads_each_field_by_its_own_schedule_and_level():
    """eps of y at level 2 and v of z at level 1; a clip bounds both, and the eps of each follows."""
    process, x, clip = unequal(), state(), 0.4
    raw = {"y": numbers(2, 4, 2, seed=5), "z": numbers(2, 4, 3, seed=6), "c": numbers(2, 4, 3, seed=7)}
    seen = {}

    def network(x_t, t, condition):
        seen["t"] = t
        return raw

    denoiser = ModuleDenoiser(network, {"y": "epsilon", "z": "v_prediction", "c": "logits"})
    denoiser.origin = 1.0
    found = predict(denoiser, process, x, {"c": 1.0, "z": 1.0, "y": 2.0}, None, clip)
    assert seen["t"].tolist() == [[2.0, 1.0, 1.0]] * 2  # in the order of the process, not of the mapping
    x_y = ((x["y"] - 0.9 * raw["y"]) / 0.4).clamp(-clip, clip)
    x_z = ((0.5 * x["z"] - 0.6 * raw["z"]) / (0.5**2 + 0.6**2)).clamp(-clip, clip)
    torch.testing.assert_close(found["y"].x_0, x_y)
    torch.testing.assert_close(found["y"].epsilon, (x["y"] - 0.4 * x_y) / 0.9)
    torch.testing.assert_close(found["z"].x_0, x_z)
    torch.testing.assert_close(found["z"].epsilon, (x["z"] - 0.5 * x_z) / 0.6)
    exponents = raw["c"].exp()
    torch.testing.assert_close(found["c"].probabilities, exponents / exponents.sum(2, keepdim=True))
    assert found["c"].level == 1


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


class At(TimeDistribution):
    """Always the given levels."""

    def __init__(self, levels):
        self.given = torch.tensor(levels, dtype=torch.float64)

    def draw(self, noise, low, high, schedule):
        self.asked = (low, high)
        return self.given


RAW = {"y": numbers(2, 4, 2, seed=8), "z": numbers(2, 4, 3, seed=9), "c": numbers(2, 4, 3, seed=10)}
OUTPUTS = {"y": "epsilon", "z": "sample", "c": "logits"}


def mean_of_real(error):
    """Of the 2 and of the 3 real elements, ``(2,)``."""
    return torch.stack([error[0, :2].mean(), error[1, :3].mean()])


def losses(levels, level=0.0, low=None, weights=None, x=None):
    process = unequal()
    process.times = At(levels)
    denoiser = ModuleDenoiser(lambda x_t, t, condition: RAW, OUTPUTS)
    return Objective(field_weights=weights).loss(denoiser, process, x or state(), None, noise(), level, low)


def cross_entropy(classes):
    log_p = RAW["c"].log_softmax(2).gather(2, classes.unsqueeze(2)).squeeze(2)
    return mean_of_real(-log_p)


def loss_y(s):
    """Eq. 6 in eps from level s to 2, at weight 1: kappa = sigma_ts / sigma_t."""
    kappa = 1.0 if s == 0 else STD_Y / 0.9
    return mean_of_real((kappa * RAW["y"] - real(numbers(2, 4, 2, seed=1))) ** 2)


def loss_z(x_s, s, t=2):
    """Eq. 6b in x_0 from level s to t, at the weight (alpha_t / sigma_t)^2 that makes it one of eps."""
    e = centred(numbers(2, 4, 3, seed=2))
    alpha, sigma = ALPHA_Z[t], SIGMA_Z[t]
    if s == 0:
        return (alpha / sigma) ** 2 * mean_of_real((RAW["z"] - x_s) ** 2)
    x_t = 0.2 * x_s + STD_Z * e
    epsilon = sigma / STD_Z * e  # eps* = (sigma_t / sigma_ts) e
    x_0 = (x_t - sigma * epsilon) / alpha
    return (alpha / sigma) ** 2 * (STD_Z / sigma) ** 2 * mean_of_real((RAW["z"] - x_0) ** 2)


def test_losses_are_means_over_the_real_elements_of_every_sample():
    """Eq. 6 and 7 at s = 0, each field alone by its weight, and their weighted sum."""
    x = state()
    expected = {"y": loss_y(0), "z": loss_z(x["z"], 0), "c": cross_entropy(x["c"])}
    for name, value in expected.items():
        others = {other: 0.0 for other in expected if other != name}
        torch.testing.assert_close(losses([2.0, 2.0], weights=others).value.double(), value)
    total = losses([2.0, 2.0], weights={"y": 3.0, "c": 0.25})
    torch.testing.assert_close(total.value.double(), 3 * expected["y"] + expected["z"] + 0.25 * expected["c"])
    assert total.t.tolist() == [2, 2]


def test_losses_above_s():
    """From level 1, Eq. 6b with kappa, Eq. 7 with the clean class summed out."""
    x = state()
    torch.testing.assert_close(losses([2.0, 2.0], 1.0, weights={"z": 0.0, "c": 0.0}).value, loss_y(1))
    torch.testing.assert_close(losses([2.0, 2.0], 1.0, weights={"y": 0.0, "c": 0.0}).value, loss_z(x["z"], 1))
    moved = unequal().noised(x, 1.0, torch.full((2,), 2.0).double(), noise())["c"].x_t
    p_0 = RAW["c"].softmax(2)
    path = CategoricalPath(C, 3, TARGET)
    one, two = (torch.full((2,), level).double() for level in (1.0, 2.0))
    q = path.posterior(moved, p_0, one, two).gather(2, x["c"].unsqueeze(2)).squeeze(2)
    found = losses([2.0, 2.0], 1.0, weights={"y": 0.0, "z": 0.0}).value
    torch.testing.assert_close(found.double(), mean_of_real(-q.log()))


def test_a_field_that_has_not_moved_adds_nothing_and_the_others_their_own():
    """Each sample has another field that stands at s = 1."""
    x = state()
    found = losses([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0]], 1.0)
    expected = torch.stack([loss_y(1)[0], loss_z(x["z"], 1)[1]])
    torch.testing.assert_close(found.value, expected)
    assert found.t.tolist() == [2, 2]  # the highest, whichever field it is


def test_states_x_0_are_taught_at_the_hand_off_itself():
    """Noised from the data, a field at ``low`` has moved: only ``level`` is where it stood."""
    x = state()
    found = losses([[2.0, 1.0, 1.0], [2.0, 1.0, 0.0]], 0.0, low=1.0)
    expected = loss_y(0) + loss_z(x["z"], 0, 1) + torch.tensor([1.0, 0.0]) * cross_entropy(x["c"])
    torch.testing.assert_close(found.value.double(), expected)


@pytest.mark.parametrize("output", ["epsilon", "sample", "v_prediction", "flow"])
@pytest.mark.parametrize("s", [0.0, 1.0])
def test_what_has_not_moved_gets_no_gradient_and_never_a_nan(output, s):
    """At t = s kappa is 0 / sigma_s, 0 / 0 at the data: the loss must be left out, and its gradient too."""
    process = Process(GaussianPath(Y), At([s, 2.0]))
    raw = numbers(2, 3).requires_grad_()
    denoiser = ModuleDenoiser(lambda x_t, t, condition: raw, output)
    given = Given((numbers(2, 3, seed=1),))
    loss = Objective().loss(denoiser, process, numbers(2, 3, seed=2), None, given, s)
    loss.value.sum().backward()
    assert loss.value[0] == 0
    assert (raw.grad[0] == 0).all()
    assert loss.value[1] > 0
    assert (raw.grad[1] != 0).all()
    noised = process.noised({"x": numbers(2, 3)}, s, torch.tensor([s, 2.0]).double(), Given((numbers(2, 3),)))["x"]
    assert process.gaussian.loss(raw, noised, output, LossSettings()).isfinite().all()


def test_mean_over_real_elements():
    error = torch.tensor([[[1.0, 3.0], [5.0, 7.0], [100.0, 100.0]], [[2.0, 4.0], [90.0, 90.0], [90.0, 90.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_over_real(error, mask).tolist() == [4.0, 3.0]
    assert mean_over_real(error[..., 0], mask).tolist() == [3.0, 2.0]
    assert mean_over_real(error, None).tolist() == [36.0, 61.0]
    assert mean_over_real(error, torch.zeros(2, 3, dtype=torch.bool)).tolist() == [0.0, 0.0]


def test_centred_noise_leaves_the_mean_of_the_real_points_alone():
    path, points = CentredGaussianPath(Z), torch.tensor([[[1.0, 2.0], [3.0, 6.0], [50.0, 50.0]]])
    two = torch.tensor([[True, True, False]])
    assert path.project(points, two).tolist() == [[[-1.0, -2.0], [1.0, 2.0], [0.0, 0.0]]]
    torch.testing.assert_close(path.project(points), points - torch.tensor([18.0, 58 / 3]))
    none = torch.zeros(1, 3, dtype=torch.bool)
    assert path.project(points, none).tolist() == [[[0.0, 0.0]] * 3]


def test_a_state_of_one_named_field_keeps_its_name():
    named = Process({"y": GaussianPath(Y)}).prior({"y": (4, 2)}, Given((numbers(2, 4, 2),)))
    assert named.keys() == {"y"}
    assert torch.equal(bare({"x": named["y"]}), named["y"])


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_sampler_tells_every_field_what_is_padding(interleaved):
    """A step from level 2 to 1 with noise of its own for each field: 0 on the padding, centred over the real points."""
    raw = {"y": torch.zeros(2, 4, 2), "z": torch.zeros(2, 4, 3), "c": numbers(2, 4, 3)}
    denoiser = ModuleDenoiser(lambda x_t, t, condition: raw, {"y": "sample", "z": "sample", "c": "logits"})
    x_t = {"y": torch.zeros(2, 4, 2).double(), "z": torch.zeros(2, 4, 3).double(), "c": state()["c"], "mask": MASK}
    given = Given(
        (numbers(2, 4, 2, seed=1), numbers(2, 4, 3, seed=2)), (torch.full((2, 4), 1 - 2**-24, dtype=torch.float64),) * 2
    )
    sampler = Interleaved(2) if interleaved else DDPM(2)
    found = sampler.resume(denoiser, unequal(), None, given, x_t, 2.0, keep=[1.0]).states[1.0]
    std_y, std_z = STD_Y * 0.3 / 0.9, STD_Z * 0.6 / 1.2  # sigma_ts sigma_s / sigma_t, of the posterior
    torch.testing.assert_close(found["y"], std_y * real(numbers(2, 4, 2, seed=1)))
    torch.testing.assert_close(found["z"], std_z * centred(numbers(2, 4, 3, seed=2)))
    assert found["c"].tolist() == [[2, 2, 0, 0], [2, 2, 2, 0]]


@pytest.mark.parametrize(
    ("level", "low", "high", "asked"),
    [(0.0, None, None, (0, 2)), (1.0, None, None, (1, 2)), (0.0, 1.0, None, (1, 2)), (0.0, None, 1.0, (0, 1))],
)
def test_the_range_in_which_levels_are_drawn(level, low, high, asked):
    process = unequal()
    process.times = At([2.0, 2.0])
    denoiser = ModuleDenoiser(lambda x_t, t, condition: RAW, OUTPUTS)
    Objective().loss(denoiser, process, state(), None, noise(), level, low, high)
    assert process.times.asked == asked


def test_the_settings_of_an_objective_reach_the_fields_that_they_concern():
    """A weighting those of numbers, the target of a head those of classes."""
    x = state()
    process = unequal()
    process.times = At([2.0, 2.0])
    denoiser = ModuleDenoiser(lambda x_t, t, condition: RAW, OUTPUTS)
    capped = Objective(CappedInverseAlpha(4.0), {"z": 0.0}, "c_s")
    found = capped.loss(denoiser, process, x, None, noise(), 1.0).value
    weight = 4.0  # below 1 / 0.4^2
    torch.testing.assert_close(found.double(), weight * loss_y(1) + cross_entropy(x["c"]))


@pytest.mark.parametrize(("output", "factor"), [("v_prediction", 0.4 / 0.97), ("flow", 0.4 / 1.3), ("sample", 4 / 9)])
def test_weights_in_eps_where_the_schedule_does_not_preserve_variance(output, factor):
    """An error of the output is |d eps / d output| times as large in eps: alpha / (alpha^2 + sigma^2) of a v."""
    process = Process(GaussianPath(Y), At([2.0, 2.0]))
    off = ModuleDenoiser(lambda x_t, t, condition: targets[output] + torch.tensor([[1.0], [3.0]]), output)
    x_0, e = numbers(2, 3, seed=2), numbers(2, 3, seed=1)
    targets = {"v_prediction": 0.4 * e - 0.9 * x_0, "flow": e - x_0, "sample": x_0}
    found = Objective(Unit()).loss(off, process, x_0, None, Given((e,)))
    torch.testing.assert_close(found.value.double(), factor**2 * torch.tensor([1.0, 9.0]).double())
