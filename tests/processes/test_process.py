"""Processes: the distribution of training levels, the prior, noising of mixed states."""

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import Cosine, Linear, RectifiedFlow
from graft_lightning.processes.times import LogitNormalTime, UniformTime
from tests.fakes import normal_noise


class GivenNoise(Noise):
    """The given numbers in place of uniform ones."""

    def __init__(self, numbers):
        self.numbers = numbers

    def uniform(self, *shape):
        return self.numbers


UNIFORM = torch.cat([torch.tensor([0.0, 1 - 2**-24]), torch.rand(20_000, generator=torch.Generator().manual_seed(1))])


def test_uniform_levels_are_every_integer_above_s():
    t = UniformTime().draw(GivenNoise(torch.arange(4000) / 4000), 3.0, 11.0, Linear(20))
    assert t.unique().tolist() == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    assert t.long().bincount()[4:].tolist() == [500] * 8


@pytest.mark.parametrize(
    "distribution", [UniformTime(), LogitNormalTime(), LogitNormalTime(0.5, 0.6)], ids=["u", "ln", "ln2"]
)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.25, 1.0), (0.0, 0.75), (0.9, 0.95)])
def test_continuous_levels_lie_above_s(distribution, low, high):
    t = distribution.draw(GivenNoise(UNIFORM), low, high, RectifiedFlow())
    assert t.dtype == torch.float64
    assert (t > low).all()
    assert (t <= high).all()
    assert float(t.max()) == pytest.approx(high, abs=1e-12)  # u = 0 is the upper end, where a flow starts


@pytest.mark.parametrize("low", [0.0, 1.0, 999.0])
def test_discrete_levels_lie_above_s(low):
    t = UniformTime().draw(GivenNoise(UNIFORM), low, 1000.0, Linear())
    assert (t > low).all()
    assert t.max() <= 1000
    assert (t == t.round()).all()


def test_logit_normal_distribution_is_the_restriction_of_its_own():
    """Kolmogorov's distance from the restricted distribution function, against 1.95 / sqrt(n) (p = 0.001)."""
    distribution, low, high = LogitNormalTime(0.3, 0.8), 0.2, 0.9
    normal = torch.distributions.Normal(0.3, 0.8)
    t = distribution.draw(GivenNoise(UNIFORM), low, high, RectifiedFlow()).sort().values
    ends = normal.cdf(torch.tensor([low, high]).double().logit())
    expected = (normal.cdf(t.logit()) - ends[0]) / (ends[1] - ends[0])
    place = (torch.arange(len(t)) + 0.5) / len(t)
    assert (expected - place).abs().max() < 1.95 / len(t) ** 0.5


def test_logit_normal_needs_continuous_levels():
    with pytest.raises(ValueError, match="continuous"):
        LogitNormalTime().draw(GivenNoise(UNIFORM), 0.0, 1000.0, Linear())


@pytest.mark.parametrize("schedule", [Linear(), RectifiedFlow()], ids=["vp", "flow"])
def test_prior_is_standard_normal(schedule):
    """A pre-trained model starts from N(0, I), as its pipeline does, though a VP table keeps a little signal at T."""
    noise, same = normal_noise(4), normal_noise(4)
    torch.testing.assert_close(Process(GaussianPath(schedule)).prior((3,), noise), same.normal(3), rtol=1e-12, atol=0)


def mixed():
    return Process({"positions": GaussianPath(Cosine()), "types": CategoricalPath(Cosine(), 4, [0.1, 0.2, 0.3, 0.4])})


def test_mixed_prior_has_every_field_and_takes_over_the_mask():
    count = 4000
    mask = torch.arange(5).expand(count, 5) < 3
    carried = TensorDict({"mask": mask}, [count])
    state = mixed().prior({"positions": (5, 3), "types": (5,)}, Noise(torch.arange(count)), carried)
    assert sorted(state.keys()) == ["mask", "positions", "types"]
    assert torch.equal(state["mask"], mask)
    assert (state["positions"][~mask] == 0).all()
    assert (state["types"][~mask] == 0).all()
    assert abs(state["positions"][mask].var().item() - 1) < 5 * (2 / (count * 9)) ** 0.5
    frequencies = state["types"][mask].bincount(minlength=4) / (count * 3)
    assert (frequencies - torch.tensor([0.1, 0.2, 0.3, 0.4])).abs().max() < 5 * (0.25 / (count * 3)) ** 0.5


def test_diffuse_of_a_mixed_state():
    """Eq. 2 with the reported e, Eq. 3 by its frequencies; the mask stays, and the input is not written to."""
    count, process = 3000, mixed()
    s, t = torch.tensor([200.0]).double(), torch.tensor([600.0]).double()
    x_s = TensorDict(
        {
            "positions": torch.ones(count, 2, 3),
            "types": torch.full((count, 2), 1),
            "mask": torch.ones(count, 2, dtype=torch.bool),
        },
        [count],
    )
    before = x_s.clone()
    x_t = process.diffuse(x_s, 200.0, 600.0, Noise(torch.arange(count)))
    assert (x_s == before).all()
    assert torch.equal(x_t["mask"], x_s["mask"])
    kernel = process.paths["positions"].kernel(s, t)
    e = Noise(torch.arange(count)).normal(2, 3)
    torch.testing.assert_close(x_t["positions"], float(kernel.alpha) + float(kernel.sigma) * e)
    q = process.paths["types"].kernel(s, t).probabilities(torch.tensor([1]))[0]
    frequencies = x_t["types"].flatten().bincount(minlength=4) / (count * 2)
    assert (frequencies - q).abs().max() < 5 * (0.25 / (count * 2)) ** 0.5


def test_diffuse_has_a_level_per_sample():
    process, x = Process(GaussianPath(Linear())), torch.ones(2, 3, dtype=torch.float64)
    t = torch.tensor([150.0, 900.0])
    x_t = process.diffuse(x, 100.0, t, normal_noise(2))
    kernel = process.gaussian.kernel(torch.full_like(t, 100.0), t)
    e = normal_noise(2).normal(3)
    torch.testing.assert_close(x_t, kernel.alpha[:, None] * x + kernel.sigma[:, None] * e)


@pytest.mark.parametrize(("s", "t"), [(500.0, 499.0), (0.0, 1001.0), (-1.0, 5.0)])
def test_noise_only_grows_and_levels_exist(s, t):
    with pytest.raises(ValueError, match="towards noise"):
        Process(GaussianPath(Linear())).diffuse(torch.ones(2, 3), s, t, Noise(torch.arange(2)))


def test_fields_must_share_their_levels():
    with pytest.raises(ValueError, match="share their levels"):
        Process({"a": GaussianPath(Linear()), "b": GaussianPath(Linear(500))})
    with pytest.raises(ValueError, match="share their levels"):  # both end at 1, one of them in a single step
        Process({"a": GaussianPath(RectifiedFlow()), "b": GaussianPath(Linear(1))})
    with pytest.raises(TypeError, match="Gaussian process"):
        _ = mixed().gaussian
