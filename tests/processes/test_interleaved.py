"""Samplers of mixed states, with the exact posterior of a small mixture in place of the network."""

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.processes.denoiser import Denoiser, predict
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.paths import CategoricalPath, CentredGaussianPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM
from graft_lightning.processes.schedules import Cosine
from graft_lightning.processes.stitched import Stitched
from graft_lightning.processes.times import UniformTime, VisitedLevels
from tests.processes.mixtures import Mixture, agreement_error, dependent, independent, total_variation

COUNT = 8000
FLOOR = 0.035  # total variation of as many exact samples, at most


@pytest.mark.parametrize("sampler", [DDPM, Interleaved], ids=["factorised", "interleaved"])
@pytest.mark.parametrize("make", [dependent, independent], ids=["dependent", "independent"])
def test_the_joint_distribution_is_approached_as_steps_grow(sampler, make):
    mixture = make()
    errors = [total_variation(mixture.sample(sampler(steps), COUNT), mixture.distribution()) for steps in (4, 16, 64)]
    assert errors[0] > 1.5 * errors[1] > 1.5 * errors[2]
    assert errors[2] < 0.05 + FLOOR


@pytest.mark.parametrize("steps", [4, 16])
def test_independent_blocks_have_the_same_error_either_way(steps):
    mixture = independent()
    one, two = (total_variation(mixture.sample(s(steps), COUNT), mixture.distribution()) for s in (DDPM, Interleaved))
    assert one == pytest.approx(two, abs=FLOOR)


def test_a_class_that_decides_the_number_wants_interleaving_where_evaluations_are_few():
    """At 4 evaluations; from 16 on the doubled cost of a step outweighs what interleaving mends (see `mixtures`)."""
    mixture = dependent(std=0.02, exceptions=0.0)
    factorised, interleaved = mixture.sample(DDPM(4), COUNT), mixture.sample(Interleaved(2), COUNT)
    assert total_variation(interleaved, mixture.distribution()) < 0.5 * total_variation(
        factorised, mixture.distribution()
    )
    assert agreement_error(interleaved, mixture) < 0.5 * agreement_error(factorised, mixture)
    mixture = dependent()
    assert agreement_error(mixture.sample(Interleaved(2), COUNT), mixture) < agreement_error(
        mixture.sample(DDPM(4), COUNT), mixture
    )


def test_a_head_for_the_class_at_s_gives_the_distribution_of_a_head_for_the_clean_class():
    """Exact heads of both kinds (Eq. 7 and its option) must agree: sum_c0 p(c_0 | x_t) q(c_s | c_t, c_0)."""
    clean = dependent()
    at_s = Mixture(clean.weights, clean.means, clean.std, origin=500.0)
    x_t = TensorDict({"y": torch.randn(6, 1).double(), "c": torch.tensor([[0], [1], [2], [0], [1], [2]])}, [6])
    high, low = torch.full((6,), 800.0).double(), torch.full((6,), 650.0).double()
    path = clean.process.paths["c"]
    one, two = (predict(m, clean.process, x_t, 800.0, None)["c"] for m in (clean, at_s))
    assert (one.level, two.level) == (0.0, 500.0)
    torch.testing.assert_close(
        path.posterior(x_t["c"], one.probabilities, low, high, one.level),
        path.posterior(x_t["c"], two.probabilities, low, high, two.level),
    )


class Table(Denoiser):
    """Logits that depend on nothing: at t = T nothing is known."""

    output = "logits"

    def __init__(self, classes, origin=0.0):
        self.logits = torch.zeros(classes, requires_grad=True)
        self.origin = origin

    def __call__(self, x_t, t, condition):
        return self.logits.expand(*x_t.shape, -1)


def test_only_a_head_for_the_class_at_s_reaches_every_tilted_distribution():
    """At s, survival beta, the clean head reaches beta p + (1 - beta) / 3; what lies above is cut to that edge."""
    process = Process(CategoricalPath(Cosine(), 3), VisitedLevels([(500.0,), (1000.0,)]))
    s = 500.0
    beta = float(process.paths["x"].survival(torch.tensor(s)))
    tilted = torch.tensor([0.9, 0.05, 0.05])
    reached = {}
    for target in ("c_0", "c_s"):
        table = Table(3, origin=s if target == "c_s" else 0.0)
        objective = Objective(categorical_target=target)
        optimizer = torch.optim.Adam([table.logits], lr=0.1)
        x_s = torch.multinomial(tilted, 2000, replacement=True, generator=torch.Generator().manual_seed(0))[:, None]
        for step in range(80):
            loss = objective.loss(table, process, x_s, None, Noise(torch.arange(2000) + 2000 * step), s).value.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trajectory = DDPM(2).sample(table, process, None, Noise(torch.arange(4000)), (1,), keep=[s])
        reached[target] = trajectory.states[s][:, 0].bincount(minlength=3) / 4000
    torch.testing.assert_close(reached["c_s"], tilted, rtol=0, atol=0.03)
    edge = torch.tensor([beta + (1 - beta) / 3, (1 - beta) / 3, (1 - beta) / 3])
    torch.testing.assert_close(reached["c_0"], edge, rtol=0, atol=0.04)


def test_a_step_asks_for_the_pairs_of_levels_that_training_draws():
    asked = []

    class Asked(Mixture):
        def __call__(self, x_t, t, condition):
            asked.append(tuple(t.tolist()[0]) if t.ndim == 2 else (t.tolist()[0],) * 2)
            return super().__call__(x_t, t, condition)

    mixture = dependent()
    trajectory = Asked(mixture.weights, mixture.means, mixture.std).sample(Interleaved(4), 3)
    assert trajectory["y"].shape == (3, 1)
    assert asked == [(t, c) for t in (1000.0, 750.0, 500.0, 250.0) for c in (t, t - 250)]
    times = VisitedLevels(Interleaved(4).training_levels(mixture.process))
    drawn = times.draw(Noise(torch.arange(500)), 0.0, 1000.0, Cosine())
    assert {tuple(pair) for pair in drawn.tolist()} == set(asked)
    above = times.draw(Noise(torch.arange(50)), 500.0, 1000.0, Cosine())
    assert set(above.amax(1).tolist()) == {750.0, 1000.0}
    between = times.draw(Noise(torch.arange(50)), 600.0, 1000.0, Cosine())  # a hand-off that the grid does not have
    assert {tuple(pair) for pair in between.tolist()} == {
        (750.0, 750.0),
        (750.0, 600.0),
        (1000.0, 1000.0),
        (1000.0, 750.0),
    }
    with pytest.raises(ValueError, match="no level that the sampler visits"):
        times.draw(Noise(torch.arange(1)), 800.0, 900.0, Cosine())
    assert times.covers(Interleaved(4).training_levels(mixture.process))
    assert not UniformTime().covers(Interleaved(4).training_levels(mixture.process))
    assert not VisitedLevels(DDPM(4).training_levels(mixture.process)).covers([(1000.0, 750.0)])


def test_a_hand_off_cuts_between_steps_and_never_inside_one():
    used = {"above": [], "below": []}

    class Named(Mixture):
        def __call__(self, x_t, t, condition):
            used[self.name].append(float(t.max()))
            return super().__call__(x_t, t, condition)

    mixture = dependent()
    models = {name: Named(mixture.weights, mixture.means, mixture.std) for name in used}
    for name, model in models.items():
        model.name = name
    stitched = Stitched(models["above"], models["below"], 500.0)
    mixed = Interleaved(4).sample(stitched, mixture.process, None, Noise(torch.arange(5)), {"y": (1,), "c": (1,)})
    assert used == {"above": [1000.0, 1000.0, 750.0, 750.0], "below": [500.0, 500.0, 250.0, 250.0]}
    assert mixed.evaluations == 8


MASK = torch.arange(5) < torch.tensor([[5], [3], [2]])


def test_centred_noise_is_standard_normal_on_its_subspace():
    path, mask = CentredGaussianPath(Cosine()), MASK[1:2].expand(20000, -1)
    noise = path.project(Noise(torch.arange(20000), dtype=torch.float64).normal(5, 3), mask)
    torch.testing.assert_close(noise.sum(1), torch.zeros(20000, 3).double(), atol=1e-12, rtol=0)
    assert (noise[:, 3:] == 0).all()
    covariance = torch.einsum("bid,bjd->ij", noise, noise)[:3, :3] / (3 * 20000)
    torch.testing.assert_close(covariance, torch.eye(3).double() - 1 / 3, atol=0.02, rtol=0)
    torch.testing.assert_close(path.project(noise, mask), noise)  # a projection


class Shrink(Denoiser):
    """A model that keeps to the subspace."""

    def __init__(self):
        self.output = {"y": "v_prediction", "c": "logits"}

    def __call__(self, x_t, t, condition):
        return {"y": 0.3 * x_t["y"], "c": torch.zeros(*x_t["c"].shape, 4)}


@pytest.mark.parametrize("sampler", [DDPM(6), DDIM(6), Interleaved(6)], ids=["ddpm", "ddim", "interleaved"])
def test_every_state_is_centred_and_padding_stays_empty(sampler):
    process = Process({"y": CentredGaussianPath(Cosine()), "c": CategoricalPath(Cosine(), 4)})
    carried = TensorDict({"mask": MASK}, [3])
    shape = {"y": (5, 3), "c": (5,)}
    levels = sampler.levels(process)[1:]
    trajectory = sampler.sample(Shrink(), process, None, Noise(torch.arange(3)), shape, levels, carried)
    for state in [trajectory.x_0, *trajectory.states.values()]:
        assert state["y"].sum(1).abs().max() < 1e-5
        assert (state["y"][~MASK] == 0).all()
        assert (state["c"][~MASK] == 0).all()
        assert torch.equal(state["mask"], MASK)
    x_t = process.diffuse(trajectory.x_0, 0.0, 400.0, Noise(torch.arange(3)))
    assert x_t["y"].sum(1).abs().max() < 1e-5
    assert (x_t["y"][~MASK] == 0).all()
    assert (x_t["c"][~MASK] == 0).all()


def test_a_field_that_has_not_moved_teaches_nothing():
    """One grid step above the hand-off the classes may stand at s itself, where their loss is left out."""
    process = Process(
        {"y": GaussianPath(Cosine()), "c": CategoricalPath(Cosine(), 3)},
        VisitedLevels([(1000.0, 1000.0), (1000.0, 500.0)]),
    )

    class Wrong(Denoiser):
        def __init__(self):
            self.output = {"y": "epsilon", "c": "logits"}

        def __call__(self, x_t, t, condition):
            self.t = t
            logits = torch.nn.functional.one_hot(torch.zeros_like(x_t["c"]), 3) * 9.0
            return {"y": x_t["y"] * 0, "c": logits}

    x_s = TensorDict({"y": torch.zeros(64, 1), "c": torch.ones(64, 1, dtype=torch.int64)}, [64])
    wrong = Wrong()
    only_classes = Objective(field_weights={"y": 0.0})
    value = only_classes.loss(wrong, process, x_s, None, Noise(torch.arange(64)), level=500.0).value
    stands = wrong.t[:, 1] == 500
    assert stands.any()
    assert not stands.all()
    assert (value[stands] == 0).all()
    assert (value[~stands] > 0.1).all()
