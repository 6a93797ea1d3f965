"""Other methods on a pool: weights, losses and gradients against what follows from their formulas by hand."""

import pytest
import torch
from torch import nn

from graft_lightning.modules import Graft, PGraft
from graft_lightning.modules.drawing_model import DrawingModel
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.objectives import noisy
from graft_lightning.processes.paths import CategoricalPath, CentredGaussianPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM
from graft_lightning.processes.schedules import RectifiedFlow, Trigonometric
from graft_lightning.processes.weightings import OwnOutput
from graft_lightning.rejection.acceptance import TopK
from graft_lightning.rejection.objectives import AWM, DGPO, DPO, NFT, RAFT, RWR, UnselectedBaseline, advantages, nft
from graft_lightning.rejection.reference import LoRA
from graft_lightning.rejection.selection import select
from graft_lightning.types import Groups, SettingsError
from tests.fakes import OUTPUTS, ModuleDenoiser, TinyReference
from tests.rejection.one_level import LEVEL, Line, OneLevel

NAN = float("nan")
REWARDS = torch.tensor([[0.1, NAN, 0.5, 0.3, 0.9, 0.2], [0.4, 0.6, 0.1, 0.2, 0.3, 0.0], [0.5] * 6])


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
    ("objective", "name"),
    [(RWR(1.0), "rwr"), (RAFT(), "raft"), (NFT(), "nft"), (AWM(), "awm"), (DPO(), "dpo"), (DGPO(), "dgpo")],
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


@pytest.mark.parametrize("objective", [NFT(), AWM(), DPO(), DGPO()], ids=lambda o: o.method)
def test_what_compares_with_the_guided_reference_is_composed(objective):
    guided = TinyReference(DDIM(8), guidance_scale=2.0)
    assert Graft(reference=guided, objective=objective).pool_objective is objective
    with pytest.raises(SettingsError, match="guidance=absorbed"):
        Graft(reference=guided, guidance="absorbed", objective=objective)
    Graft(reference=guided, guidance="absorbed", objective=RWR(1.0))


FLOW = GaussianPath(RectifiedFlow())


def seen_of(x, path, level):
    """What the losses of `losses` are taken at: x_t, kappa and kappa x_0* of Eq. 6b."""
    process = Process(path, OneLevel())
    seen = noisy(process, x, Noise(torch.arange(len(x))), level)
    field = seen.fields["x"]
    kappa, target = path.scaled_target("sample", x, field.random, level, field.t)
    return seen.x_t, kappa[0].float(), target


def adaptively(error):
    """Mean square over the mean absolute value, and the derivative by the error with that value held."""
    size = error.abs().mean(1, keepdim=True)
    return (error.square().mean(1, keepdim=True) / size).squeeze(1), 2 * error / error.shape[1] / size


@pytest.mark.parametrize("path", [GaussianPath(Trigonometric()), FLOW], ids=["diffusion", "flow"])
@pytest.mark.parametrize("level", [0.0, 0.3])
def test_nft_without_negatives_is_soft_acceptance_with_an_adaptive_weight(path, level):
    """The network predicts the data, slope x_t: the gradient by hand, with A_i = q_i in place of A_i / mean A."""
    x, at, q = torch.randn(10, 3), torch.full((10,), 0.4), torch.rand(10)
    objective = NFT(negative=False, anchor=0.0)
    value, slope = losses(objective, x, q, at, at + 1, "sample", level, path=path)
    x_t, kappa, target = seen_of(x, path, level)
    loss, by_error = adaptively(kappa * 0.4 * x_t - target)
    torch.testing.assert_close(value, q * loss, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(slope, q * (by_error * kappa * x_t).sum(1), atol=1e-5, rtol=1e-4)


def test_nft_by_a_rule_is_graft_with_an_adaptive_weight():
    """Q in {0, 1} by top-K: the accepted draws' losses, each over its own mean absolute error, and no others."""
    chosen = selection_of(rule=TopK(2))
    objective = NFT(optimality="accepted", negative=False, anchor=0.0)
    q = objective.weights(chosen)
    assert [o.by_rule for o in (objective, UnselectedBaseline(), NFT(), RWR(1.0))] == [True, True, False, False]
    assert torch.equal(q, chosen.accepted.double())
    x, at = torch.randn(6, 3), torch.full((6,), 0.4)
    _, slope = losses(objective, x, q[0].float(), at, at, "sample")
    _, plainly = losses(RWR(1.0, weighting=OwnOutput()), x, chosen.relative[0].float(), at, at, "sample")
    x_t, _, target = seen_of(x, GaussianPath(Trigonometric()), 0.0)
    size = (0.4 * x_t - target).abs().mean(1)
    assert plainly.count_nonzero() == 2
    torch.testing.assert_close(slope * size, plainly * chosen.share[0].mean().float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mixing", [1.0, 0.1, 2.0])
def test_at_the_reference_nft_is_pulled_by_twice_the_optimality_less_one(mixing):
    """There x+ = x-: the terms' gradients are q g and -(1 - q) g, whatever the mixing."""
    x, at, q = torch.randn(10, 3), torch.full((10,), 0.4), torch.rand(10)
    value, slope = losses(NFT(mixing, anchor=1.0), x, q, at, at, "sample")
    x_t, _, target = seen_of(x, GaussianPath(Trigonometric()), 0.0)
    loss, by_error = adaptively(0.4 * x_t - target)
    torch.testing.assert_close(value, loss / mixing, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(slope, (2 * q - 1) * (by_error * x_t).sum(1), atol=1e-5, rtol=1e-4)


def test_nft_away_from_the_reference_has_both_terms_and_the_anchor():
    x, at, start, q = torch.randn(10, 3), torch.full((10,), 0.4), torch.full((10,), 0.9), torch.rand(10)
    value, _ = losses(NFT(0.3, anchor=0.7), x, q, at, start, "sample")
    x_t, _, target = seen_of(x, GaussianPath(Trigonometric()), 0.0)
    plus = adaptively((0.3 * 0.4 + 0.7 * 0.9) * x_t - target)[0]
    minus = adaptively((1.3 * 0.9 - 0.3 * 0.4) * x_t - target)[0]
    held = 0.7 * (0.5 * x_t).square().mean(1)
    torch.testing.assert_close(value, (q * plus + (1 - q) * minus) / 0.3 + held, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("level", [0.0, 0.3])
def test_nft_is_the_same_loss_for_every_output(output, level):
    """Of models that predict the same data: `convert` back from x_0 = slope x_t, by its own slope for each output."""
    path = GaussianPath(Trigonometric())
    alpha, sigma = path.schedule.at(LEVEL)
    slopes = {
        "sample": 0.4,
        "epsilon": (1 - alpha * 0.4) / sigma,
        "v_prediction": alpha * (1 - alpha * 0.4) / sigma - sigma * 0.4,
        "flow": (1 - alpha * 0.4) / sigma - 0.4,
    }
    x, q = torch.randn(10, 3), torch.rand(10)
    ours, own = (torch.full((10,), slopes[name]) for name in (output, "sample"))
    value, _ = losses(NFT(anchor=0.0), x, q, ours, ours, output, level)
    expected, _ = losses(NFT(anchor=0.0), x, q, own, own, "sample", level)
    torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-4)


def test_nft_and_awm_leave_out_what_could_not_be_judged():
    q = NFT().weights(selection_of())
    assert q[0, 1] == 0
    assert q[2].tolist() == [0.5] * 6
    assert float(q[0, 4]) == pytest.approx(0.5 + float(advantages(REWARDS)[0, 4]) / 10)
    x, at = torch.randn(6, 3), torch.full((6,), 0.4)
    for objective in (NFT(), AWM()):
        weight = objective.weights(selection_of())[0].float()
        value, slope = losses(objective, x, weight, at, at - 0.1, rewards=REWARDS[0])
        assert (value == 0).tolist() == (slope == 0).tolist() == [False, True, False, False, False, False]


@pytest.mark.parametrize("path", [GaussianPath(Trigonometric()), FLOW], ids=["diffusion", "flow"])
@pytest.mark.parametrize("level", [0.0, 0.3])
@pytest.mark.parametrize("output", OUTPUTS)
def test_at_the_reference_awm_is_pulled_by_the_advantage(path, output, level):
    """Minus A times the gradient of l = -4 t (d^(1/4) - const): t d^(-3/4) of that of d; the anchor has none there."""
    x, at, weight = torch.randn(10, 3), torch.full((10,), 0.4), torch.randn(10)
    own, gradient = plain(x, at, output, level, path)
    squared, slope = losses(AWM("squared"), x, weight, at, at, output, level, path=path)
    torch.testing.assert_close(squared, weight * own)
    torch.testing.assert_close(slope, weight * gradient, atol=1e-5, rtol=1e-4)
    alpha, sigma = path.schedule.at(LEVEL)
    time = sigma / (alpha + sigma)
    rooted, slope = losses(AWM(), x, weight, at, at, output, level, path=path)
    torch.testing.assert_close(rooted, weight * 4 * time * (own**0.25 - 1e-10**0.25), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(slope, weight * time * own**-0.75 * gradient, atol=1e-5, rtol=1e-3)


def test_the_time_of_awm_is_that_of_a_flow():
    alpha, sigma = RectifiedFlow().at(LEVEL)
    assert sigma / (alpha + sigma) == pytest.approx(LEVEL)


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_anchored_awm_learns_what_selected_less_unselected_draws_teach(level):
    """Squared with anchor 1, at the reference and away from it: the losses differ by a constant."""
    x, start, weight = torch.randn(10, 3), torch.full((10,), 0.4), torch.randn(10)
    for at in (start, start + 0.7):
        _, slope = losses(AWM("squared", reference_anchor=0.0), x, weight, at, start, level=level)
        _, other = losses(UnselectedBaseline(OwnOutput()), x, weight + 1, at, start, level=level)
        torch.testing.assert_close(slope, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("objective", [NFT(), AWM()], ids=lambda o: o.method)
def test_classes_are_refused_in_words_where_the_method_moves_predictions(objective):
    mixed = Process({"c": CategoricalPath(Trigonometric(), 4), "y": GaussianPath(Trigonometric())})
    with pytest.raises(SettingsError, match=rf"{type(objective).__name__} .* classes in c: use RWR, DGPO or DPO"):
        objective.check(mixed)
    objective.check(Process({"y": GaussianPath(Trigonometric()), "z": CentredGaussianPath(Trigonometric())}))
    path = CategoricalPath(Trigonometric(), 4)
    with pytest.raises(TypeError, match="jumps from class to class"):
        path.apart(*[torch.zeros(1)] * 2, None, "logits", None)


def test_fields_count_by_their_weights_and_padding_not_at_all():
    """Two fields, of which one has padding whose values must not matter."""
    paths = {"y": GaussianPath(Trigonometric()), "z": GaussianPath(Trigonometric())}
    process = Process(paths, OneLevel())
    mask = torch.tensor([[True, True, False], [True, False, False]])
    x = {"y": torch.randn(2, 3, 2), "z": torch.randn(2, 3, 2), "mask": mask}

    class Half(nn.Module):
        def __init__(self, slope, padding):
            super().__init__()
            self.slope, self.padding = slope, padding

        def forward(self, x_t, t, condition):
            away = self.padding * ~mask.unsqueeze(-1)
            return {name: self.slope * x_t[name] + away for name in ("y", "z")}

    def value(objective, padding):
        models = [ModuleDenoiser(Half(slope, padding), {"y": "sample", "z": "sample"}) for slope in (0.5, 0.2)]
        groups = Groups(x, [""] * 2, torch.arange(2), torch.tensor([0.9, -0.3]), torch.zeros(2), 2)
        return objective.group_loss(*models, process, groups, None).value

    for kind in (NFT, AWM):
        only = [value(kind(field_weights={"y": a, "z": b}), 0.0) for a, b in ((1.0, 0.0), (0.0, 1.0), (1.0, 2.0))]
        if kind is NFT:
            torch.testing.assert_close(only[2], only[0] + 2 * only[1])
        assert (only[0] != only[1]).all()
        torch.testing.assert_close(value(kind(), 0.0), value(kind(), 100.0))


def test_later_rounds_compare_with_the_model_that_drew_them():
    """NFT and AWM at the drawing model, away from the reference: pulled as in the first round at the reference."""
    x, at, weight = torch.randn(10, 3), torch.full((10,), 0.4), torch.rand(10)
    process = Process(GaussianPath(Trigonometric()), OneLevel())
    groups = Groups(x, [""] * 10, torch.arange(10), weight, torch.zeros(10), 10)
    for objective in (NFT(anchor=0.0), AWM(reference_anchor=0.0)):
        line, far = Line(at.clone()), Line(at + 5)
        models = [ModuleDenoiser(one, "sample") for one in (line, far, Line(at.clone()))]
        loss = objective.group_loss(*models[:2], process, groups, None, drawing=models[2])
        (slope,) = torch.autograd.grad(loss.value.sum(), [line.slopes])
        value, expected = losses(objective, x, weight, at, at, "sample")
        torch.testing.assert_close(loss.value, value)
        torch.testing.assert_close(slope, expected)
    held = AWM(anchor=2.0, reference_anchor=0.5)
    loss = held.group_loss(*models[:2], process, groups, None, drawing=models[2])
    x_t = seen_of(x, GaussianPath(Trigonometric()), 0.0)[0]
    torch.testing.assert_close(loss.value, value + 0.5 * (5 * x_t).square().mean(1), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="keep one"):
        AWM(anchor=0.0, reference_anchor=0.0)


@pytest.mark.parametrize("lora", [None, LoRA(rank=2)], ids=["full", "lora"])
def test_a_module_keeps_the_weights_that_drew_and_answers_with_them(lora):
    """Also through a checkpoint; training goes on meanwhile, and its gradient is its own."""
    module = Graft(reference=TinyReference(DDIM(8), dropout=0.5), objective=NFT(anchor=0.0), lora=lora)
    module.configure_model()
    trained = [p for p in module.network.parameters() if p.requires_grad]
    torch.manual_seed(0)
    with torch.no_grad():
        for p in trained:
            p.add_(0.3 * torch.randn_like(p))
    x, t = torch.randn(8, 2), torch.full((8,), 0.5, dtype=torch.float64)
    condition = module.reference.encode(["left"] * 8, "cpu")
    module.eval()
    then = module.views.trainable(x, t, condition).detach()
    module.drawn_again()
    with torch.no_grad():
        for p in trained:
            p.add_(0.5)
    now = module.views.trainable(x, t, condition).detach()
    assert (now - then).abs().max() > 0.1
    checkpoint = {"state_dict": dict(module.state_dict()), "global_step": 1}
    module.on_save_checkpoint(checkpoint)
    again = Graft(reference=TinyReference(DDIM(8)), objective=NFT(), lora=lora)
    again.configure_model()
    again.on_load_checkpoint(checkpoint)
    module.train()
    drawing = DrawingModel(module.views.trainable, module.network, again.drew_with)
    torch.testing.assert_close(drawing(x, t, condition), then)
    assert all(part.training for part in module.network.modules() if isinstance(part, nn.Dropout))
    module.eval()
    torch.testing.assert_close(module.views.trainable(x, t, condition).detach(), now)
    groups = Groups(x, ["left"] * 8, torch.arange(8), torch.full((8,), 0.5), torch.zeros(8), 4)
    module.loss_of(groups)[0].backward()
    moved = max(p.grad.abs().max() for p in trained if p.grad is not None)
    module.zero_grad()
    module.drawn_again()
    module.loss_of(groups)[0].backward()
    at_rest = max(p.grad.abs().max() for p in trained if p.grad is not None)
    assert moved > 1e-3
    assert at_rest < 1e-5  # q = 1/2 where nothing has moved


def test_objectives_without_a_drawing_model_keep_no_weights():
    module = Graft(reference=TinyReference(DDIM(8)), objective=DGPO())
    module.configure_model()
    module.drawn_again()
    assert module.drew_with == {}


def test_what_a_round_aims_at():
    chosen = selection_of(rule=TopK(2))
    tilt = 1 + advantages(REWARDS) / 5
    torch.testing.assert_close(AWM().aim(chosen), tilt)
    torch.testing.assert_close(NFT(1.0).aim(chosen), tilt)
    torch.testing.assert_close(NFT(0.1).aim(chosen), 10 * tilt - 9)
    torch.testing.assert_close(UnselectedBaseline().aim(chosen), chosen.relative)
    torch.testing.assert_close(NFT(optimality="accepted", negative=False).aim(chosen), chosen.relative)
    assert RAFT().aim(chosen)[:2].max(1).values.tolist() == [6, 6]
    for objective in (AWM(), NFT(), RWR(0.3), RAFT()):
        assert objective.aim(chosen).mean(1) == pytest.approx(1.0)
    assert DPO().aim(chosen) is None
    assert DGPO().aim(chosen) is None


def test_the_minimiser_of_nft_is_the_step_that_it_names(monkeypatch):
    """Squares in place of adaptive ones: x_old + E[(2 q - 1)(x_0 - x_old)] / mixing, of constant answers."""
    monkeypatch.setattr(nft, "adaptive", lambda error, mask: error.square().mean(1))
    x, q, old, mixing = torch.tensor([[1.0], [-1.0]]), torch.tensor([0.8, 0.3]), 0.25, 0.5
    answer = nn.Parameter(torch.zeros(()))

    class Constant(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, x_t, t, condition):
            return self.value * torch.ones_like(x_t)

    process = Process(GaussianPath(Trigonometric()), OneLevel())
    groups = Groups(x, [""] * 2, torch.arange(2), q, torch.zeros(2), 2)
    models = [ModuleDenoiser(Constant(value), "sample") for value in (answer, torch.tensor(old))]

    def slope(at):
        with torch.no_grad():
            answer.fill_(at)
        value = NFT(mixing, anchor=0.0).group_loss(*models, process, groups, None).value.mean()
        return float(torch.autograd.grad(value, [answer])[0])

    found = slope(0.0) / (slope(0.0) - slope(1.0))  # of a parabola
    expected = old + ((2 * q - 1) * (x.squeeze(1) - old)).mean() / mixing
    assert found == pytest.approx(float(expected), abs=1e-5)
