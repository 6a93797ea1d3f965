"""Fields with schedules of their own, in samples with unequal numbers of real elements: every draw by its value.

All expected numbers come from Eq. 1 to 3 with the listed coefficients of `known`, field by field.
"""

import math

import pytest
import torch

from graft_lightning.processes.denoiser import predict
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.outputs import Classes, Prediction
from graft_lightning.processes.paths import CategoricalPath, CentredGaussianPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDPM
from graft_lightning.types import bare
from tests.fakes import ModuleDenoiser
from tests.processes.known import (
    ALPHA_Y,
    ALPHA_Z,
    KEPT,
    MASK,
    SIGMA_Y,
    SIGMA_Z,
    STD_Y,
    STD_Z,
    SURVIVAL,
    TARGET,
    UNIFORM,
    C,
    Given,
    Y,
    Z,
    centred,
    noise,
    numbers,
    real,
    state,
    unequal,
)


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
