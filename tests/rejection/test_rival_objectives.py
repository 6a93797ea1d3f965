"""Other methods on a pool: weights, losses and gradients against what follows from their formulas by hand."""

import pytest
import torch
from torch import nn

from graft_lightning.modules import Graft, PGraft
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM
from graft_lightning.processes.schedules import Trigonometric
from graft_lightning.processes.times import TimeDistribution
from graft_lightning.processes.weightings import OwnOutput
from graft_lightning.rejection.acceptance import TopK
from graft_lightning.rejection.objectives import DGPO, DPO, RAFT, RWR, advantages
from graft_lightning.rejection.selection import select
from graft_lightning.types import Groups, SettingsError
from tests.fakes import OUTPUTS, ModuleDenoiser, TinyReference

LEVEL = 0.6
NAN = float("nan")
REWARDS = torch.tensor([[0.1, NAN, 0.5, 0.3, 0.9, 0.2], [0.4, 0.6, 0.1, 0.2, 0.3, 0.0], [0.5] * 6])


class OneLevel(TimeDistribution):
    """Always the same level."""

    def draw(self, noise, low, high, schedule):
        return torch.full((len(noise),), LEVEL, dtype=torch.float64)


class Line(nn.Module):
    """A scalar multiple of what is seen, with a slope for every example: each has a gradient of its own."""

    def __init__(self, slopes):
        super().__init__()
        self.slopes = nn.Parameter(slopes)

    def forward(self, x, t, condition):
        return self.slopes.reshape(-1, *[1] * (x.ndim - 1)) * x


def selection_of(rewards=REWARDS, rule=None):
    keys = torch.zeros(rewards.shape, dtype=torch.int64)
    seeds = torch.arange(rewards.numel()).reshape(rewards.shape)
    return select(rewards, keys, seeds, rule or TopK(1))


def losses(objective, x, weight, at, reference, output="epsilon", level=0.0, size=None, path=None, rewards=None):
    """The losses, what the models stood at, and each slope's gradient of their sum."""
    process = Process(path or GaussianPath(Trigonometric()), OneLevel())
    line, frozen = Line(at.clone()), Line(reference.clone())
    rewards = torch.zeros(len(x)) if rewards is None else rewards
    groups = Groups(x, [""] * len(x), torch.arange(len(x)), weight, rewards, size or len(x))
    models = ModuleDenoiser(line, output), ModuleDenoiser(frozen, output)
    loss = objective.group_loss(*models, process, groups, None, level)
    (slope,) = torch.autograd.grad(loss.value.sum(), [line.slopes])
    return loss.value.detach(), slope


def plain(x, at, output="epsilon", level=0.0, path=None, shared=None):
    """The denoising losses in the output's own units, and each slope's gradient."""

    class Plain(RWR):
        same_noise = shared is not None

    found = losses(Plain(1.0, weighting=OwnOutput()), x, torch.ones(len(x)), at, at, output, level, shared, path)
    return found


def test_rwr_weighs_by_the_exponential_of_the_reward_alike_in_all_conditions():
    weights = RWR(temperature=0.2).weights(selection_of())
    assert (weights[:, 1] == 0).tolist() == [True, False, False]  # NaN
    assert weights.mean(1) == pytest.approx(1.0)
    assert float(weights[1, 1] / weights[1, 0]) == pytest.approx(2.718281828)  # a difference of one temperature
    assert weights[2] == pytest.approx(1.0)
    # a common shift of rewards by condition changes nothing
    shifted = RWR(temperature=0.2).weights(selection_of(REWARDS + torch.tensor([[1.0], [-2.0], [100.0]])))
    torch.testing.assert_close(shifted, weights, atol=1e-4, rtol=1e-4)
    nothing = REWARDS.clone()
    nothing[2] = NAN
    assert (RWR(temperature=0.2).weights(selection_of(nothing))[2] == 0).all()


def test_cold_rwr_is_raft_is_the_best_of_n():
    chosen = selection_of()
    cold = RWR(temperature=1e-3).weights(chosen)[:2]
    best = RAFT().weights(chosen)
    torch.testing.assert_close(cold / 6, best[:2], atol=1e-9, rtol=0)
    torch.testing.assert_close(best[:2], chosen.share[:2])
    assert best[2].tolist() == [1, 0, 0, 0, 0, 0]
    nothing = REWARDS.clone()
    nothing[2] = NAN
    assert (RAFT().weights(selection_of(nothing))[2] == 0).all()


def test_rwr_of_two_points_learns_the_tilted_mean():
    """x_0 = +-1 alike often, r = x_0: the best constant answer is the weighted mean, tanh(1 / temperature)."""
    x = torch.tensor([[1.0], [-1.0]]).repeat(200, 1)
    temperature = 0.8
    weight = RWR(temperature).weights(selection_of(x.reshape(1, -1))).flatten().float()
    constant = nn.Parameter(torch.zeros(()))

    class Constant(nn.Module):
        def forward(self, x_t, t, condition):
            return constant.expand_as(x_t)

    model = ModuleDenoiser(Constant(), "sample")
    process = Process(GaussianPath(Trigonometric()), OneLevel())
    groups = Groups(x, [""] * 400, torch.arange(400), weight, x.flatten(), 400)
    optimiser = torch.optim.LBFGS([constant], max_iter=20)

    def closure():
        optimiser.zero_grad()
        value = RWR(temperature, weighting=OwnOutput()).group_loss(model, model, process, groups, None).value.mean()
        value.backward()
        return value

    optimiser.step(closure)
    assert float(constant.detach()) == pytest.approx(torch.tensor(1 / temperature).tanh().item(), abs=1e-4)


def test_advantages_are_centred_in_the_condition_and_scaled_by_all():
    found = advantages(REWARDS)
    finite = REWARDS[REWARDS.isfinite()].double()
    spread = ((finite - finite.mean()) ** 2).mean().sqrt() + 1e-4
    assert float(found[1, 1]) == pytest.approx(float((0.6 - 1.6 / 6) / spread), rel=1e-5)
    assert float(found[0, 4]) == pytest.approx(float((0.9 - 0.4) / spread), rel=1e-5)
    assert found.sum(1).abs().max() < 1e-5
    assert found[0, 1] == 0
    assert (found[2] == 0).all()
    assert advantages(torch.tensor([[0.0] * 99 + [1.0]])).max() == 5
    assert (advantages(torch.full((1, 3), NAN)) == 0).all()


def test_dpo_pairs_the_best_with_the_worst_and_leaves_out_what_is_alike():
    weights = DPO().weights(selection_of())
    assert weights.tolist() == [[-1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [0] * 6]
    one = torch.tensor([[0.4, NAN], [0.3, 0.1]])
    assert DPO().weights(selection_of(one)).tolist() == [[0, 0], [1, -1]]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("level", [0.0, 0.3])
def test_at_the_reference_dpo_pulls_a_quarter_of_its_scale(output, level):
    x, at = torch.randn(8, 3), torch.full((8,), 0.4)
    weight = torch.tensor([1.0, -1.0]).repeat(4)
    value, slope = losses(DPO(preference_scale=30), x, weight, at, at, output, level, size=2)
    assert value.tolist() == pytest.approx([torch.tensor(2.0).log().item()] * 8)
    _, own = plain(x, at, output, level, shared=2)
    # of the sum over the batch, in which both of a pair carry the pair's loss
    torch.testing.assert_close(slope, 2 * 30 / 4 * weight * own, atol=1e-4, rtol=1e-4)


def test_dpo_away_from_the_reference_is_the_logistic_loss_of_both_changes():
    x, at, start = torch.randn(8, 3), torch.full((8,), 0.7), torch.full((8,), 0.4)
    weight = torch.tensor([-1.0, 1.0]).repeat(4)
    value, _ = losses(DPO(preference_scale=3), x, weight, at, start, size=2)
    change = plain(x, at, shared=2)[0] - plain(x, start, shared=2)[0]
    margin = change[1::2] - change[::2]
    torch.testing.assert_close(value[::2], -(-1.5 * margin).sigmoid().log(), atol=1e-6, rtol=1e-5)
    assert torch.equal(value[::2], value[1::2])


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("level", [0.0, 0.3])
def test_dgpo_pulls_by_one_half_at_the_reference(output, level):
    x, at, weight = torch.randn(12, 3), torch.full((12,), 0.4), torch.randn(12)
    value, slope = losses(DGPO(), x, weight, at, at, output, level, size=4)
    own, gradient = plain(x, at, output, level, shared=4)
    torch.testing.assert_close(value, weight * own / 2)
    torch.testing.assert_close(slope, weight * gradient / 2, atol=1e-5, rtol=1e-4)


def test_dgpo_is_the_gradient_of_the_groups_log_preference():
    """-(1 / scale) log sigmoid(-scale mean A (d - d_ref)) of each group of G; the losses' mean is G of them over G."""
    x, start, weight = torch.randn(12, 3), torch.full((12,), 0.4), torch.randn(12)
    at = start + 0.3
    _, slope = losses(DGPO(preference_scale=7.0), x, weight, at, start, size=4)

    class Whole(DGPO):
        def losses(self, answers, groups):
            ours, theirs = self.errors(answers)
            inner = groups.by_group(groups.weight * (ours - theirs)).mean(1)
            return -torch.nn.functional.logsigmoid(-7.0 * inner) / 7.0 * groups.size

    _, expected = losses(Whole(), x, weight, at, start, size=4)
    torch.testing.assert_close(slope, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("objective", [RWR(1.0), RAFT(), DPO(), DGPO()], ids=lambda o: o.method)
def test_classes_are_trained_too_where_the_method_is_about_losses(objective):
    process = Process({"c": CategoricalPath(Trigonometric(), 4, "absorbing")})

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.values = nn.Parameter(torch.zeros(8, 5, 4))

        def forward(self, x_t, t, condition):
            return {"c": self.values}

    model = Logits()
    denoiser = ModuleDenoiser(model, {"c": "logits"})
    groups = Groups({"c": torch.randint(4, (8, 5))}, [""] * 8, torch.arange(8), torch.ones(8), torch.ones(8), 2)
    loss = objective.group_loss(denoiser, denoiser, process, groups, None)
    loss.value.mean().backward()
    assert model.values.grad.abs().max() > 1e-3
    assert model.values.grad.isfinite().all()


@pytest.mark.parametrize(
    ("objective", "name"), [(RWR(1.0), "rwr"), (RAFT(), "raft"), (DPO(), "dpo"), (DGPO(), "dgpo")], ids=str
)
def test_a_hand_off_is_part_of_the_name_and_of_the_levels(objective, name):
    module = PGraft(reference=TinyReference(DDIM(8)), handoff=0.25, objective=objective)
    assert module.method == f"p{name}@0.25"
    assert module.loss_range()[:2] == (module.handoff_level, module.handoff_level)
    assert Graft(reference=TinyReference(DDIM(8)), objective=objective).method == name
    module.configure_model()
    groups = Groups(torch.randn(8, 2), ["left"] * 8, torch.arange(8), torch.ones(8), torch.zeros(8), 2)
    total, loss = module.loss_of(groups)
    total.backward()
    assert (loss.t > module.handoff_level).all()
    assert all(p.grad is None for p in module.views.original.parameters())


@pytest.mark.parametrize("objective", [DPO(), DGPO()], ids=lambda o: o.method)
def test_what_compares_with_the_guided_reference_is_composed(objective):
    guided = TinyReference(DDIM(8), guidance_scale=2.0)
    assert Graft(reference=guided, objective=objective).pool_objective is objective
    with pytest.raises(SettingsError, match="guidance=absorbed"):
        Graft(reference=guided, guidance="absorbed", objective=objective)
    Graft(reference=guided, guidance="absorbed", objective=RWR(1.0))
