"""Feynman-Kac steering: normalisers and tilted distributions in closed form, whose randomness is whose, its cost."""

import logging
import math
from itertools import pairwise

import pytest
import torch

from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.noise import Noise, trajectory_seeds
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM, Euler, Heun
from graft_lightning.processes.schedules import Cosine, RectifiedFlow
from graft_lightning.rejection import steering
from graft_lightning.rejection.potentials import Potentials, effective, systematic
from graft_lightning.rejection.reference import FrozenDenoiser, Reference
from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.steering import Steering
from graft_lightning.types import SettingsError
from tests.fakes import GaussianReference, LinearReward, Recorder, exact_moments
from tests.processes.mixtures import Mixture

POTENTIALS = ["difference", "max", "sum"]
PATHS = {"diffusion": GaussianPath(Cosine()), "flow": GaussianPath(RectifiedFlow())}


def seeds_of(texts, seed=0):
    return trajectory_seeds(seed, 0, texts, range(len(texts)))


def gaussian(sampler=None, path="diffusion"):
    reference = GaussianReference(sampler or DDPM(6), PATHS[path], "v_prediction", dtype=torch.float64)
    return reference, FrozenDenoiser(reference, reference.build())


def steered(settings, reference, denoiser, count, reward=None, **arguments):
    texts = ["left"] * count
    return settings.sample(reference, reward or LinearReward(), denoiser, texts, seeds_of(texts), **arguments)


def relative(log_normaliser, exact):
    """Estimates over the exact value: their mean less 1, in standard errors."""
    found = (log_normaliser - exact).exp()
    return float((found.mean() - 1) / (found.std() / math.sqrt(len(found))))


@pytest.mark.parametrize("potential", POTENTIALS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("particles", [1, 4])
def test_normaliser_and_mean_of_a_gaussian_chain(potential, path, particles):
    """x_0 of a linear chain is N(m, v): E exp(x / T) = exp(m / T + v / 2T^2), and x tilted by it has mean m + v / T."""
    reference, denoiser = gaussian(path=path)
    mean, variance = (float(v[0]) for v in exact_moments(reference.sampler, denoiser, reference.process, 1))
    temperature = 0.8
    found = steered(Steering(particles, 2, temperature, potential, 0.9), reference, denoiser, 4000, at_once=4000)
    exact = mean / temperature + variance / (2 * temperature**2)
    assert abs(relative(found.log_normaliser, exact)) < 4
    x = found.particles.view(4000, particles, 2)[..., 0]
    share = (found.log_normaliser - exact).exp()
    tilted = share * (found.log_weights.softmax(1) * x).sum(1)
    error = (tilted.mean() - mean - variance / temperature) / (tilted.std() / math.sqrt(4000))
    assert abs(float(error)) < 4
    if particles > 1:
        assert found.resampled.sum() > 1000  # or nothing of this was looked at


class Chain(Reference):
    """One class of three, with a head of fixed odds that depend on the class it sees."""

    output = "logits"
    odds = torch.tensor([[2.0, 0.3, -1.0], [-0.5, 1.0, 0.2], [0.1, -0.4, 0.9]], dtype=torch.float64)

    def __init__(self):
        super().__init__(DDPM(4))

    @property
    def process(self):
        return Process(CategoricalPath(Cosine(100), 3, "uniform"))

    def build(self, pretrained=True):
        return torch.nn.Identity()

    def denoise(self, network, x_t, t, condition):
        return self.odds[x_t]

    def encode(self, conditions, device):
        return torch.zeros(len(conditions))

    def shape(self, conditions):
        return (1,)

    def finished(self):
        """The distribution of c_0, by enumeration."""
        path, levels = self.process.paths["x"], self.sampler.levels(self.process)[::-1]
        law = torch.full((3,), 1 / 3, dtype=torch.float64)
        every = torch.arange(3)
        for t, t_next in pairwise(levels):
            s, high = (torch.full((3,), level, dtype=torch.float64) for level in (t_next, t))
            law = law @ path.posterior(every, self.odds.softmax(-1), s, high)
        return law


class Worth(Reward):
    """A number for each class."""

    values = torch.tensor([0.0, 1.0, 0.4])

    def __call__(self, samples, conditions):
        return self.values[samples[:, 0]]


@pytest.mark.parametrize("potential", POTENTIALS)
def test_the_tilted_distribution_of_an_enumerable_chain(potential):
    """At a temperature where no group has more than half a percent of the sum: that of "sum" has a heavy tail below."""
    reference, count, particles, temperature = Chain(), 3000, 3, 2.0
    denoiser = FrozenDenoiser(reference, reference.build())
    law = reference.finished() * (Worth.values.double() / temperature).exp()
    texts = [""] * count
    settings = Steering(particles, 1, temperature, potential, 1.0)
    found = settings.sample(reference, Worth(), denoiser, texts, seeds_of(texts), at_once=count)
    assert abs(relative(found.log_normaliser, float(law.sum().log()))) < 4
    share = found.log_normaliser.exp()[:, None] * found.log_weights.softmax(1)
    for value in range(3):
        each = (share * (found.particles.view(count, particles) == value)).sum(1)
        assert abs(float((each.mean() - law[value]) / (each.std() / math.sqrt(count)))) < 4


@pytest.mark.parametrize("potential", POTENTIALS)
def test_many_particles_drawn_by_weight_follow_the_tilted_distribution(potential):
    reference = Chain()
    denoiser, texts = FrozenDenoiser(reference, reference.build()), [""] * 3000
    law = reference.finished() * (Worth.values.double() / 0.5).exp()
    law = law / law.sum()
    by_weight = Steering(40, 1, 0.5, potential, choose="drawn")
    drawn = by_weight.sample(reference, Worth(), denoiser, texts, seeds_of(texts)).x_0[:, 0]
    for value in range(3):
        expected = float(law[value])
        assert float((drawn == value).double().mean()) == pytest.approx(
            expected, abs=4 * math.sqrt(expected * (1 - expected) / 3000) + 0.01
        )


def mixed(sampler):
    """A reference around the mixture of two classes, whose answers are exact."""
    inner = Mixture(torch.tensor([[0.4, 0.1], [0.1, 0.4]]), torch.tensor([-1.0, 1.0]), 0.3)

    class Mixed(Reference):
        output = inner.output

        @property
        def process(self):
            return inner.process

        def build(self, pretrained=True):
            return torch.nn.Identity()

        def denoise(self, network, x_t, t, condition):
            return inner(x_t, t, condition)

        def encode(self, conditions, device):
            return torch.zeros(len(conditions))

        def shape(self, conditions):
            return {"y": (1,), "c": (1,)}

    reference = Mixed(sampler)
    return reference, FrozenDenoiser(reference, reference.build())


class OfBoth(Reward):
    """The number, and more where the class is 1."""

    def __call__(self, samples, conditions):
        return (samples["y"] + samples["c"])[:, 0]


@pytest.mark.parametrize("sampler", [DDPM(7), DDIM(7, 0.0), Euler(7), Heun(7)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("path", PATHS)
def test_one_particle_is_plain_sampling_bit_for_bit(sampler, path):
    reference, denoiser = gaussian(sampler, path)
    texts = ["left", "right", "left"]
    condition = reference.encode(texts, "cpu")
    plain = sampler.sample(denoiser, reference.process, condition, Noise(seeds_of(texts)), (2,))
    found = Steering(1, 1).sample(reference, LinearReward(), denoiser, texts, seeds_of(texts))
    assert torch.equal(found.x_0, plain.x_0)
    assert found.evaluations == plain.evaluations


@pytest.mark.parametrize("sampler", [DDPM(7), Interleaved(7)], ids=lambda s: type(s).__name__)
def test_one_particle_of_a_mixed_state_is_plain_sampling_bit_for_bit(sampler):
    reference, denoiser = mixed(sampler)
    seeds = seeds_of([""] * 5)
    plain = sampler.sample(denoiser, reference.process, None, Noise(seeds), {"y": (1,), "c": (1,)}).x_0
    found = Steering(1, 2).sample(reference, OfBoth(), denoiser, [""] * 5, seeds).x_0
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_mixed_states_are_steered_as_a_whole():
    """Both fields of a copy are its parent's: the dependence between class and number outlives resampling."""
    reference, denoiser = mixed(DDPM(20))
    texts = [""] * 200
    found = Steering(8, 2, 0.3).sample(reference, OfBoth(), denoiser, texts, seeds_of(texts))
    plain = Steering(1, 2, 0.3).sample(reference, OfBoth(), denoiser, texts, seeds_of(texts))
    assert found.rewards.mean() > plain.rewards.mean() + 0.5
    assert found.resampled.min() >= 0
    assert found.resampled.sum() > 50
    every = found.particles
    agrees = ((every["y"] > 0) == (every["c"] == 1)).double().mean()
    assert agrees > 0.75


@pytest.mark.parametrize("choose", ["best", "drawn"])
def test_batches_and_their_order_change_nothing(choose):
    reference, denoiser = gaussian(DDPM(10))
    texts = ["left", "right"] * 4
    seeds, settings = seeds_of(texts), Steering(4, 2, 0.2, choose=choose)
    whole = settings.sample(reference, LinearReward(), denoiser, texts, seeds, at_once=8)
    assert whole.resampled.max() > whole.resampled.min()  # groups that differ in what happens to them
    for at_once in (1, 3, None):
        found = settings.sample(reference, LinearReward(), denoiser, texts, seeds, at_once=at_once)
        torch.testing.assert_close(found.x_0, whole.x_0, rtol=0, atol=1e-6)
        torch.testing.assert_close(found.log_normaliser, whole.log_normaliser, rtol=0, atol=1e-4)
    back = settings.sample(reference, LinearReward(), denoiser, texts[::-1], seeds.flip(0), at_once=8)
    torch.testing.assert_close(back.x_0.flip(0), whole.x_0, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampler", [DDPM(10), Heun(10), Interleaved(10)], ids=lambda s: type(s).__name__)
def test_predictions_cost_no_further_call_of_the_network(sampler):
    if isinstance(sampler, Interleaved):
        (reference, denoiser), reward, calls = mixed(sampler), OfBoth(), 20
    else:
        (reference, denoiser), reward = gaussian(sampler), LinearReward()
        calls = 19 if isinstance(sampler, Heun) else 10

    class Counted(Recorder):
        def __call__(self, x_t, t, condition):
            self.trajectories += len(t)
            return self.inner(x_t, t, condition)

    counted = Counted(denoiser)
    found = steered(Steering(3, 4), reference, counted, 2, reward)
    assert found.evaluations == 3 * calls
    assert counted.trajectories == 2 * found.evaluations
    assert found.reward_calls == 3 * (2 + 1)  # after 4 and 8 steps, and at the end
    if isinstance(reward, LinearReward):
        assert reward.scored == 2 * found.reward_calls


def test_the_best_particle_is_the_sample_and_beats_best_of_as_many():
    reference, denoiser = gaussian(DDPM(20))
    found = steered(Steering(6, 2, 0.1), reference, denoiser, 200)
    assert torch.equal(found.x_0[:, 0], found.rewards.max(1).values.to(found.x_0))
    never = steered(Steering(6, 2, 0.1, threshold=0.0), reference, denoiser, 200)
    assert never.resampled.sum() == 0
    assert found.x_0[:, 0].mean() > never.x_0[:, 0].mean() + 0.2


class Judges(Reward):
    """The first coordinate, where it is above a bound."""

    def __init__(self, bound):
        self.bound = bound

    def __call__(self, samples, conditions):
        return torch.where(samples[:, 0] > self.bound, samples[:, 0], torch.nan)


def test_what_cannot_be_judged_is_never_the_sample_where_another_can():
    reference, denoiser = gaussian(DDPM(10))
    for choose in ("best", "drawn"):
        found = steered(Steering(8, 2, 0.2, choose=choose), reference, denoiser, 50, Judges(-1.0))
        judged = found.rewards.isfinite().any(1)
        assert judged.sum() > 40
        assert (found.x_0[judged, 0] > -1).all()
    nothing = steered(Steering(4, 2), reference, denoiser, 10, Judges(1e9))
    assert nothing.x_0.isfinite().all()
    assert (nothing.log_normaliser == -math.inf).all()


def test_potentials_by_hand():
    """Of one particle with rewards .2, .5, .1 on the way and .3 at the end, at temperature .1."""
    expected = {"difference": [2.0, 3.0, -4.0, 2.0], "max": [2.0, 5.0, 5.0, -9.0], "sum": [2.0, 7.0, 8.0, -14.0]}
    for kind, values in expected.items():
        potentials = Potentials(kind, 0.1, 1, 1)
        found = [float(potentials.on_the_way(torch.tensor([[r]]))) for r in (0.2, 0.5, 0.1)]
        found.append(float(potentials.at_the_end(torch.tensor([[0.3]]))))
        assert found == pytest.approx(values, abs=1e-5)
        assert sum(found) == pytest.approx(3.0, abs=1e-5)


def test_systematic_resampling_gives_each_its_share():
    weights = torch.tensor([[0.05, 0.4, 0.0, 0.55]], dtype=torch.float64)
    uniforms = (torch.arange(1000, dtype=torch.float64)[:, None] + 0.5) / 1000
    rows = systematic(weights.log().expand(1000, 4), uniforms)
    counts = torch.stack([(rows == place).sum(1) for place in range(4)], 1)
    torch.testing.assert_close(counts.double().mean(0), 4 * weights[0], rtol=0, atol=2e-3)
    assert (counts >= (4 * weights).floor()).all()
    assert (counts <= (4 * weights).ceil()).all()
    ends = systematic(torch.tensor([[0.0, -math.inf]]).double(), torch.tensor([[1 - 2**-53]], dtype=torch.float64))
    assert ends.tolist() == [[0, 0]]


def test_effective_number_of_particles():
    log_weights = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, -math.inf, -math.inf, -math.inf]]).double() + 3
    assert effective(log_weights).tolist() == pytest.approx([4.0, 1.0])


def test_a_deterministic_sampler_is_told_of(caplog, monkeypatch):
    reference, denoiser = gaussian(Euler(5))
    monkeypatch.setattr(steering, "_TOLD", set())
    monkeypatch.setattr(logging.getLogger("graft_lightning"), "propagate", True)
    with caplog.at_level("WARNING"):
        steered(Steering(2, 2), reference, denoiser, 2)
        steered(Steering(2, 2), reference, denoiser, 2)
    told = [record for record in caplog.records if "copies of a particle stay the same" in record.getMessage()]
    assert len(set(map(id, told))) == 1  # pytest may see one twice: where it was made, and further up


def test_what_is_refused():
    reference, denoiser = gaussian()

    class Group(LinearReward):
        groupwise = True

    with pytest.raises(SettingsError, match="single samples"):
        steered(Steering(2), reference, denoiser, 2, Group())
    for arguments, told in (
        ({"particles": 0}, "particles=0"),
        ({"every": 0}, "every=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"potential": "product"}, "potential='product'.*difference, max, sum"),
        ({"choose": "worst"}, "choose='worst'.*best, drawn"),
    ):
        with pytest.raises(ValueError, match=told):
            Steering(**arguments)
